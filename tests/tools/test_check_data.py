"""The check command, as `tools/check_data.py` calls it, and its short form before a training."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from d2ext.cli.check_data import main
from d2ext.cli.train import main as train
from d2ext.errors import UserError
from detectron2.data import DatasetCatalog
from tests.helpers.training import write_data

TOOL = Path(__file__).parents[2] / "tools" / "check_data.py"
SMALL = [
    *("MODEL.DEVICE", "cpu", "MODEL.SWIN.EMBED_DIM", "16", "MODEL.SWIN.DEPTHS", "[1, 1, 1, 1]"),
    *("MODEL.SWIN.NUM_HEADS", "[1, 1, 2, 2]", "MODEL.FPN.OUT_CHANNELS", "32"),
    *("MODEL.DYHEAD.NUM_BLOCKS", "1"),
    *("INPUT.MIN_SIZE_TRAIN", "(64,)", "SOLVER.IMS_PER_BATCH", "2"),
]
CONFIG = ["--config-file", "configs/dyhead_swint.yaml"]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("D2EXT_CACHE", str(tmp_path / "cache"))
    yield
    for name in {"train", "val"} & set(DatasetCatalog.list()):
        DatasetCatalog.remove(name)


@pytest.fixture
def data(tmp_path) -> Path:
    write_data(tmp_path / "data")
    return tmp_path / "data"


def flag(data: Path) -> str:
    return f"{data / 'annotations.json'}:{data}"


def spoil(data: Path) -> None:
    """Plants what training meets before and during its first iterations, once each."""
    path = data / "annotations.json"
    document = json.loads(path.read_text())
    images, items = document["images"], document["annotations"]
    for x in range(6):  # so that less than half of all is unusable
        items.append({**items[0], "id": len(items) + 1, "bbox": [1 + x, 2, 6 + x, 9]})
    boxes = [[math.nan, 1, 5, 5], [1, 1, 0, 5], [9999, 1, 5, 5], [1, 1, 9, 9]]
    for number, box in enumerate(boxes, start=1):
        items.append({**items[0], "id": len(items) + 1, "bbox": box})
        items[-1]["category_id"] = items[0]["category_id"] if number < 4 else 99
    items.append({"id": len(items) + 1, "image_id": 12345, "category_id": 1, "bbox": [1, 1, 4, 4]})
    items.append({"id": len(items) + 1, "image_id": images[0]["id"], "bbox": [1, 1, 4, 4]})
    path.write_text(json.dumps(document))
    last = [data / image["file_name"] for image in images[-2:]]
    last[0].write_bytes(b"")
    last[1].write_bytes(last[1].read_bytes()[:70])


def test_the_exit_status_says_whether_there_are_faults(data, capsys):
    assert main([flag(data)]) == 0
    spoil(data)
    assert main([flag(data)]) == 1
    assert "error box-empty, 1: boxes have no area; draw them again" in capsys.readouterr().out


def test_data_that_cannot_be_read_at_all_exit_with_2(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        main([str(tmp_path / "nothing")])
    command = [sys.executable, str(TOOL), str(tmp_path / "nothing")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "no such file or folder" in done.stderr
    assert "Traceback" not in done.stderr


def test_config_values_need_a_config(data):
    with pytest.raises(SystemExit) as stop:
        main([flag(data), "SEED", "1"])
    assert stop.value.code == 2


def test_the_report_holds_every_fault(data, tmp_path, capsys):
    spoil(data)
    main([flag(data), "--report", str(tmp_path / "issues.json"), "--show", "0"])
    report = json.loads((tmp_path / "issues.json").read_text())
    assert report["version"] == 1
    assert report["splits"][0]["format"] == "COCO"
    by_code = {kind["code"]: kind for kind in report["issues"]}
    assert {"image-empty", "image-truncated", "box-nonfinite", "class-unknown"} <= set(by_code)
    assert all(kind["count"] == len(kind["places"]) for kind in report["issues"])
    (place,) = by_code["box-nonfinite"]["places"]
    assert place["box"][0] == "nan"
    assert place["where"].startswith(f"{data / 'annotations.json'}, annotation")
    assert sum(report["counts"].values()) == sum(kind["count"] for kind in report["issues"])


def test_a_repaired_copy_has_no_error_and_the_source_is_as_it_was(data, tmp_path, capsys):
    spoil(data)
    before = {path: path.read_bytes() for path in data.rglob("*") if path.is_file()}
    assert main([flag(data), "--fix", str(tmp_path / "out")]) == 1
    text = capsys.readouterr().out
    assert "repaired: box-empty, 1: leaves the object out" in text
    assert {path: path.read_bytes() for path in data.rglob("*") if path.is_file()} == before
    out = tmp_path / "out"
    again = tmp_path / "again.json"
    main([f"{out / 'train.json'}:{out / 'images' / 'train'}", "--report", str(again)])
    assert json.loads(again.read_text())["counts"]["error"] == 0
    listed = json.loads((out / "repairs.json").read_text())["issues"]
    assert {"box-empty", "image-truncated"} <= {kind["code"] for kind in listed}


@pytest.mark.parametrize("place", ["", "inside"])
def test_a_repaired_copy_is_never_written_among_the_data(data, place):
    with pytest.raises(UserError, match="--fix"):
        main([flag(data), "--fix", str(data / place)])


def test_objects_are_measured_at_the_size_that_the_model_sees(data, capsys):
    anchors = ["MODEL.ANCHOR_GENERATOR.SIZES", "[[512], [512], [512], [512], [512]]"]
    main([flag(data), *CONFIG, *SMALL, *anchors])
    text = capsys.readouterr().out
    assert "object-below-anchors" in text
    assert "smallest anchor 512" in text
    assert "object-below-stride" not in text


def test_training_says_what_is_wrong_and_goes_on_with_the_rest(data, tmp_path, capfd):
    spoil(data)
    out = tmp_path / "out"
    few = ["SOLVER.MAX_EPOCHS", "1", "OUTPUT_DIR", str(out)]
    train([*CONFIG, "--num-gpus", "1", "--train", flag(data), *SMALL, *few])
    assert (out / "model_final.pth").is_file()
    log = (out / "log.txt").read_text()
    assert "data check: " in log
    for code in ("image-empty", "image-truncated", "box-nonfinite", "box-empty"):
        assert f"error {code}, 1: " in log
    listed = json.loads((out / "data_faults" / "train.json").read_text())
    codes = [issue["code"] for issue in listed]
    for code in ("image-empty", "image-truncated", "box-empty"):
        assert codes.count(code) == 1
    assert codes.count("class-unknown") == 2
    assert json.loads((out / "data_faults" / "check.json").read_text())["counts"]["error"] >= 8
