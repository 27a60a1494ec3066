import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from d2ext.config import load_config
from d2ext.engine.auto import Machine, describe, resolve_auto
from d2ext.errors import ConfigError, UserError
from d2ext.projects.yolo_fastest import compute_anchors
from d2ext.projects.yolo_fastest.anchors import best_anchors, best_possible_recall, input_sizes

CONFIG = "projects/yolo_fastest/configs/yolo_fastest_v2.yaml"
CENTERS = np.array([[10, 10], [20, 40], [60, 30], [90, 90], [200, 80], [300, 300]])


def stats_of(sizes: np.ndarray, image: tuple[int, int] = (352, 352)) -> SimpleNamespace:
    return SimpleNamespace(
        class_names=("one",),
        image_sizes=np.tile(image, (len(sizes), 1)),
        object_sizes=np.asarray(sizes, dtype=np.float64),
        object_images=np.arange(len(sizes)),
    )


def around_centers(count: int = 20) -> np.ndarray:
    spread = np.random.default_rng(0).uniform(0.9, 1.1, (count, *CENTERS.shape))
    return (CENTERS * spread).reshape(-1, 2)


def test_clusters_are_found_and_sorted_by_area():
    found = best_anchors(around_centers(), 6, ratio=2.0)
    np.testing.assert_allclose(found, CENTERS, rtol=0.05)


def test_the_same_seed_gives_the_same_anchors():
    sizes = np.random.default_rng(1).uniform(5, 300, (200, 2))
    assert best_anchors(sizes, 6, 2.0).tolist() == best_anchors(sizes, 6, 2.0).tolist()


def test_recall_counts_boxes_within_the_ratio_on_both_sides():
    sizes = np.array([[10.0, 10], [19, 6], [20, 10], [10, 21]])
    assert best_possible_recall(sizes, np.array([[10.0, 10.0]]), ratio=2.0) == 0.5


@pytest.mark.parametrize(
    ("kind", "expected"), [("stretch", [35.2, 17.6]), ("letterbox", [35.2, 35.2 / 2])]
)
def test_boxes_are_measured_in_the_networks_input(kind, expected):
    cfg = load_config(CONFIG, ["INPUT.RESIZE", kind])
    wide = stats_of(np.array([[100, 50]]), image=(1000, 1000))
    np.testing.assert_allclose(input_sizes(cfg, wide), [expected])
    flat = stats_of(np.array([[100, 50]]), image=(1000, 500))
    assert input_sizes(cfg, flat)[0, 1] == pytest.approx(35.2 if kind == "stretch" else 17.6)


def test_auto_computes_anchors_for_both_levels_and_reports_recall():
    cfg = load_config(CONFIG)
    assert "MODEL.YOLO_FASTEST.ANCHORS" in cfg.AUTO
    decided = resolve_auto(cfg, stats_of(around_centers()), Machine("cpu", 1, 2, False))
    assert "of 120 boxes; best possible recall 1.0000" in describe(decided, ["train"])
    found = np.array(cfg.MODEL.YOLO_FASTEST.ANCHORS)
    np.testing.assert_allclose(found, CENTERS.reshape(2, 3, 2), rtol=0.05)


def test_too_few_boxes_leave_the_published_ones():
    cfg = load_config(CONFIG)
    published = np.array(cfg.MODEL.YOLO_FASTEST.ANCHORS)
    resolve_auto(cfg, stats_of(np.array([[10, 10]] * 9)), Machine("cpu", 1, 2, False))
    np.testing.assert_allclose(cfg.MODEL.YOLO_FASTEST.ANCHORS, published)


def test_another_resizing_is_refused():
    cfg = load_config(CONFIG, ["INPUT.RESIZE", "shortest_edge"])
    with pytest.raises(ConfigError, match=r"INPUT\.RESIZE"):
        input_sizes(cfg, stats_of(around_centers()))


@pytest.fixture
def flag(tmp_path):
    """A COCO file of `CENTERS` in one image, as --train takes it."""
    (tmp_path / "images").mkdir()
    Image.new("RGB", (352, 352)).save(tmp_path / "images" / "a.png")
    boxes = [[0, 0, int(w), int(h)] for w, h in np.repeat(CENTERS, 3, axis=0)]
    annotations = [
        {"id": n, "image_id": 1, "category_id": 1, "bbox": box, "area": 1, "iscrowd": 0}
        for n, box in enumerate(boxes, start=1)
    ]
    image = {"id": 1, "file_name": "a.png", "width": 352, "height": 352}
    categories = [{"id": 1, "name": "thing"}]
    document = {"images": [image], "annotations": annotations, "categories": categories}
    (tmp_path / "train.json").write_text(json.dumps(document))
    return f"{tmp_path / 'train.json'}:{tmp_path / 'images'}"


def test_the_command_prints_recall_and_a_line_for_the_config(flag, capsys):
    compute_anchors.main(["--config-file", CONFIG, "--train", flag])
    recall, line = capsys.readouterr().out.strip().splitlines()
    assert recall == "anchors of 18 boxes; best possible recall 1.0000"
    key, _, value = line.partition(": ")
    cfg = load_config(CONFIG, [key, value])
    np.testing.assert_allclose(cfg.MODEL.YOLO_FASTEST.ANCHORS, CENTERS.reshape(2, 3, 2), rtol=0.01)


def test_data_that_are_not_there_are_named(tmp_path):
    with pytest.raises(UserError, match=r"none\.json"):
        compute_anchors.main(["--config-file", CONFIG, "--train", f"{tmp_path}/none.json:x"])
    assert "d2ext.projects.yolo_fastest" in sys.modules
