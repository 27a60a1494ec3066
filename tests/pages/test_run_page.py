"""The page of a short training."""

import json
import shutil
from copy import deepcopy

import pytest

from d2ext.cli.report import main
from d2ext.errors import DataError
from d2ext.pages import register_results_section, run_page
from d2ext.pages.run_page import write_run_page
from tests.helpers.browser import assert_fits, needs_browser


@pytest.fixture
def run(tmp_path):
    """What a training leaves, without training: config, metrics, log and results."""
    from PIL import Image

    images = tmp_path / "images"
    images.mkdir()
    document = {"images": [], "annotations": [], "categories": [{"id": 4, "name": "<cat>"}]}
    results = []
    for number in range(3):
        Image.new("RGB", (64, 48), (90, 120, 40 * number)).save(images / f"{number}.png")
        size = {"width": 64, "height": 48}
        document["images"].append({"id": number, "file_name": f"{number}.png", **size})
        item = {"image_id": number, "category_id": 4, "bbox": [5, 6, 20, 18]}
        document["annotations"].append({**item, "id": number + 1, "iscrowd": 0, "area": 360})
        results.append({**item, "score": 0.9 - number / 10})
    results.append({**results[0], "bbox": [40, 20, 15, 15], "score": 0.95})
    (tmp_path / "val.json").write_text(json.dumps(document))
    folder = tmp_path / "output"
    (folder / "inference" / "val").mkdir(parents=True)
    found = folder / "inference" / "val" / "coco_instances_results.json"
    found.write_text(json.dumps(results))
    register = [{"name": "val", "path": str(tmp_path / "val.json"), "images": str(images)}]
    (folder / "config.yaml").write_text(
        f"DATASETS:\n  REGISTER: {json.dumps(register)}\n  TRAIN: [val]\n  TEST: [val]\n"
    )
    lines = [
        {"iteration": i, "total_loss": 3.0 / (i + 1), "loss_cls": 1.0, "lr": 0.1, "time": 0.5}
        | {"max_memory_mb": 2048.0}
        for i in range(0, 100, 20)
    ]
    lines.append({"iteration": 99, "bbox/AP": 40.0, "bbox/AP50": 60.0})
    (folder / "metrics.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "log.txt").write_text(
        "[11/21 11:28:46] d2ext INFO: command: train_net.py --config-file a.yaml\n"
        "[11/21 11:28:46] d2ext INFO: d2ext 0.1.0, detectron2 bundled, torch 2.15.0\n"
        "[11/21 11:29:46] d2.evaluation INFO: Total inference pure compute time: 0:00:10 "
        "(0.121444 s / iter per device, on 1 devices)\n"
    )
    return folder


def test_the_page_has_speed_curves_precision_and_mistakes(run):
    main([str(run)])
    page = (run / "report.html").read_text(encoding="utf-8")
    for text in (
        "train_net.py --config-file a.yaml",
        "torch 2.15.0",
        "2.00 GiB",
        "0.121444",
        "Total loss",
        "Evaluation, bbox",
        "AP by class and size, boxes",
        "&lt;cat&gt;",
        "Most confident, and nothing is there: 1",
        "Missed, the largest: 1",
    ):
        assert text in page, text
    assert page.count("data:image/jpeg") == 2


def test_a_run_without_evaluation_has_a_page_too(run, tmp_path):
    shutil.rmtree(run / "inference")
    (run / "log.txt").unlink()
    write_run_page(run, tmp_path / "page.html")
    assert "Total loss" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_a_model_that_found_nothing(run):
    (run / "inference" / "val" / "coco_instances_results.json").write_text("[]")
    main([str(run)])
    assert "found nothing at all" in (run / "report.html").read_text(encoding="utf-8")


def test_a_registered_file_of_results_has_a_section_of_its_own(run, monkeypatch):
    monkeypatch.setattr(run_page, "_SECTIONS", deepcopy(run_page._SECTIONS))
    register_results_section("depth.json", lambda page, name, path: page.text(path.read_text()))
    (run / "inference" / "val" / "depth.json").write_text("mean error 0.25 m")
    main([str(run)])
    page = (run / "report.html").read_text(encoding="utf-8")
    assert page.index("AP by class and size") < page.index("mean error 0.25 m")


def test_a_folder_of_something_else_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"no config\.yaml, so no run of tools/train_net\.py"):
        main([str(tmp_path)])


@needs_browser
@pytest.mark.parametrize("width", [360, 1200])
def test_a_browser_shows_it_without_scrolling_sideways(run, tmp_path, width):
    main([str(run)])
    assert_fits(run / "report.html", tmp_path, width)
