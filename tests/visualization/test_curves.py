import json

import matplotlib
import numpy as np
import pytest
from PIL import Image

from d2ext.visualization.curves import _evaluated, read_metrics, save_curves, smoothed


@pytest.fixture
def metrics(tmp_path):
    rows = [
        {"iteration": i, "total_loss": 3 - i / 50, "loss_cls": 1.0, "lr": 0.1} for i in range(99)
    ]
    rows[50] |= {"bbox/AP": 20.0, "bbox/AP50": 40.0, "val/total_loss": 2.5, "val/loss_cls": 1.2}
    path = tmp_path / "metrics.json"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return path


def test_a_metric_is_a_series_over_the_iterations_that_have_it(metrics):
    series = read_metrics(metrics)
    assert len(series["total_loss"][0]) == 99
    assert [list(s) for s in series["bbox/AP"]] == [[50], [20.0]]


def test_a_line_cut_short_is_passed_over(metrics):
    with open(metrics, "ab") as file:
        file.write(b'{"iteration": 99, "total_loss": 0.\xc3')
    assert read_metrics(metrics)["total_loss"][0][-1] == 98


def test_after_a_resume_the_later_value_of_an_iteration_counts(metrics):
    with open(metrics, "a") as file:
        file.write('{"iteration": 98, "total_loss": 77.0}\n')
    iterations, values = read_metrics(metrics)["total_loss"]
    assert len(iterations) == 99
    assert values[-1] == 77.0


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (
            {"nuscenes/NDS": 30.0, "nuscenes/mAP": 20.0, "nuscenes/mATE": 0.8, "nuscenes/mAVE": 1.2}
            | {"nuscenes/mAOE": 0.5, "nuscenes/AP-car": 60.0},
            ["nuscenes/NDS", "nuscenes/mAP", "nuscenes/mAVE", "nuscenes/mATE"],
        ),
        (
            {"sem_seg/pACC": 90.0, "sem_seg/mIoU": 50.0, "sem_seg/IoU-sky": 70.0},
            ["sem_seg/mIoU", "sem_seg/pACC"],
        ),
        (
            {"val_2/bbox/AP50": 40.0, "val_2/bbox/AP": 20.0, "val_2/bbox/AP-cat": 1.0},
            ["val_2/bbox/AP", "val_2/bbox/AP50"],
        ),
        ({"rpn/num_pos_anchors": 3.0, "stage0/roi_head/num_fg_samples": 3.0, "val/loss": 1.0}, []),
    ],
)
def test_metrics_of_any_evaluator_are_drawn(row, expected, tmp_path):
    path = tmp_path / "metrics.json"
    path.write_text(json.dumps({"iteration": 3, "lr": 0.1, **row}), encoding="utf-8")
    assert _evaluated(read_metrics(path)) == expected


def colors_in(panel):
    return len(np.unique(panel.reshape(-1, 3), axis=0))


def test_all_four_panels_are_drawn(metrics, tmp_path):
    save_curves(metrics, tmp_path / "curves.png")
    image = np.asarray(Image.open(tmp_path / "curves.png").convert("RGB"))
    halves = [panel for side in np.array_split(image, 2) for panel in np.array_split(side, 2, 1)]
    assert all(colors_in(panel) > 30 for panel in halves)


@pytest.mark.parametrize(
    "text",
    [
        "",
        '{"iteration": 0, "total_loss": NaN}\n',
        '{"iteration": 5, "total_loss": 1.0}\n',
        '[1]\n{"epoch": 1}\n{"iteration": 3, "note": "text", "lr": 0.1}\n',
        '{"iteration": 3, "total_loss": Infinity, "bbox/AP": NaN, "loss_a": -1.0}\n',
    ],
)
def test_metrics_that_hold_little_give_a_picture(text, tmp_path):
    (tmp_path / "metrics.json").write_text(text)
    save_curves(tmp_path / "metrics.json", tmp_path / "curves.png")
    assert Image.open(tmp_path / "curves.png").size == (1440, 960)


def test_the_style_of_other_figures_stays_as_it_was(metrics, tmp_path):
    before = dict(matplotlib.rcParams)
    save_curves(metrics, tmp_path / "curves.png")
    assert dict(matplotlib.rcParams) == before


def test_smoothing_keeps_a_constant_and_bridges_gaps():
    np.testing.assert_allclose(smoothed(np.full(100, 3.0)), 3.0)
    values = np.full(100, 3.0)
    values[50] = np.nan
    np.testing.assert_allclose(smoothed(values), 3.0)
    assert len(smoothed(np.array([1.0]))) == 1
