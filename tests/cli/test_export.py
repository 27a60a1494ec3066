import json
import sys
from dataclasses import replace

import pytest
import torch
from PIL import Image

from d2ext.cli.export import main
from d2ext.errors import ConfigError, DataError
from d2ext.exporters import check
from d2ext.exporters import run as export_run
from d2ext.exporters.check import ExportError
from d2ext.exporters.dense import DenseExporter
from d2ext.exporters.formats import METADATA
from tests.helpers.detectors import tiny_detector


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Calls the command in a folder with a config and weights."""
    monkeypatch.chdir(tmp_path)
    model, cfg = tiny_detector("ATSS")
    (tmp_path / "config.yaml").write_text(cfg.dump())
    torch.save({"model": model.state_dict(), "thing_classes": ["a", "b", "c"]}, "weights.pth")

    def call(*options, output="model.pt", kind="torchscript"):
        base = ["--config-file", "config.yaml", "--format", kind, *options, "--output", output]
        main([*base, "MODEL.WEIGHTS", "weights.pth"])

    return call


def stored():
    extra = {METADATA: ""}
    module = torch.jit.load("model.pt", _extra_files=extra)
    return module, json.loads(extra[METADATA])


def test_the_file_holds_metadata_for_its_use(run, capsys):
    run()
    _, metadata = stored()
    assert metadata["classes"] == ["a", "b", "c"]
    assert metadata["channel_order"] == "BGR"
    assert (metadata["size"], metadata["stride"]) == (None, 1)
    assert (metadata["resize"], metadata["shortest"], metadata["longest"]) == (
        "shortest_edge",
        800,
        1333,
    )
    assert metadata["padding"] == pytest.approx([103.53, 116.28, 123.675])
    assert metadata["outputs"] == ["boxes", "scores", "classes"]
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith("1 x 3 x 256 x 318: ")
    assert printed[1].startswith("3 x 3 x 287 x 256: ")
    assert [line.split(":")[0].split()[:2] for line in printed[2:4]] == [["image", "of"]] * 2
    assert printed[4].startswith("written: model.pt")


def test_a_fixed_size_and_raw_outputs(run):
    run("--size", "256", "288", "--decode", "none")
    module, metadata = stored()
    assert (metadata["size"], metadata["resize"]) == ([256, 288], "letterbox")
    assert metadata["outputs"] == ["anchors", "logits", "deltas", "centerness"]
    assert (metadata["nms"], metadata["decode"]) == ("none", "none")
    assert module(torch.zeros(2, 3, 256, 288))[1].shape[::2] == (2, 3)


def test_a_letterboxed_model_is_compared_in_whole_images_unless_a_size_pads_them(run, capsys):
    letterbox = ("INPUT.RESIZE", "letterbox", "INPUT.SIZE", "[320, 256]")
    run(*letterbox)
    _, metadata = stored()
    assert (metadata["resize"], metadata["size"], metadata["frame"]) == (
        "letterbox",
        None,
        [256, 320],
    )
    assert "image of" in capsys.readouterr().out
    run("--size", "256", "320", *letterbox)
    printed = capsys.readouterr().out
    assert "padded to that, further than prediction pads them" in printed
    assert "image of" not in printed


def test_a_file_that_differs_from_the_model_does_not_replace_what_was_there(
    run, tmp_path, monkeypatch
):
    (tmp_path / "model.pt").write_text("before")
    monkeypatch.setattr(check, "RAW_TOLERANCE", -1.0)
    with pytest.raises(ExportError, match=r"model\.pt: not written; .*boxes differs by"):
        run("--nms", "none")
    assert (tmp_path / "model.pt").read_text() == "before"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["config.yaml", "model.pt", "weights.pth"]


@pytest.mark.parametrize(
    ("options", "changes", "message"),
    [
        ((), {"output": "model.onnx"}, r"named \*\.pt"),
        (("--nms", "inside", "--decode", "none"), {}, "--nms none"),
        (("--size", "0", "320"), {}, "positive multiples of 1 pixels"),
        (("--int8",), {}, "--int8 needs --format onnx"),
        (("--fp16",), {}, "--fp16 needs --format onnx"),
        (("--evaluate", "a.json:b"), {}, "--evaluate needs --format onnx"),
    ],
)
def test_a_mistake_is_one_message(run, tmp_path, options, changes, message):
    with pytest.raises(ConfigError, match=message):
        run(*options, **changes)
    assert not list(tmp_path.glob("model*"))


def test_images_that_are_not_there_are_named(run):
    with pytest.raises(DataError, match=r"--images none\.jpg"):
        run("--images", "none.jpg")


def test_a_data_set_that_is_not_there_is_named_before_the_export(run, tmp_path):
    with pytest.raises(DataError, match=r"none\.json"):
        run("--evaluate", "none.json:images", output="model.onnx", kind="onnx")
    assert not list(tmp_path.glob("model*"))


def test_openvino_writes_both_of_its_files_or_none(run, tmp_path, monkeypatch):
    pytest.importorskip("openvino")

    def write_parts(options, cfg, model, names, path, detect, pixel_names):
        path.write_text("graph")
        path.with_suffix(".bin").write_text("weights")
        yield "compared"
        if broken:
            raise ExportError("differs")

    monkeypatch.setattr(export_run, "export_model", write_parts)
    broken = True
    with pytest.raises(ExportError):
        run(output="model.xml", kind="openvino")
    assert not list(tmp_path.glob("*model*"))
    broken = False
    run(output="model.xml", kind="openvino")
    assert (tmp_path / "model.xml").read_text() == "graph"
    assert (tmp_path / "model.bin").read_text() == "weights"


def test_a_missing_package_is_one_message(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(ConfigError, match="--format openvino needs the package openvino: pip"):
        run(output="model.xml", kind="openvino")


SMALL = ("--size", "160", "192")
UNSURE = ("MODEL.ATSS.SCORE_THRESH_TEST", "0.9", "INPUT.MIN_SIZE_TEST", "200")


def test_a_model_that_detects_nothing_is_compared_below_its_threshold(run, capsys):
    run(*UNSURE)
    printed = capsys.readouterr().out.splitlines()
    assert all("0 detections, no box was compared" in line for line in printed[:4])
    below = [line.partition(" detections")[0].split() for line in printed[4:8]]
    assert all(line[:4] == ["above", "a", "score", "of"] for line in below)
    assert 10 < max(int(line[-1]) for line in below) <= 100
    assert printed[8].startswith("written: model.pt")
    assert stored()[0](torch.zeros(1, 3, 256, 288))[1].max() == 0  # still of the model's threshold


def test_a_broken_box_head_is_noticed_where_the_model_detects_nothing(run, tmp_path, monkeypatch):
    decode = DenseExporter.decode

    def decode_shifted(self, raw):
        levels = decode(self, raw)
        return replace(levels, boxes=[boxes + 1 for boxes in levels.boxes])

    monkeypatch.setattr(DenseExporter, "decode", decode_shifted)
    with pytest.raises(ExportError, match=r"above a score of .* have no counterpart"):
        run(*SMALL, *UNSURE)
    assert not list(tmp_path.glob("model*"))


def test_blank_images_are_no_reason_to_refuse_a_file(run, capsys):
    Image.new("RGB", (400, 300), "white").save("blank.png")
    run(*SMALL, "--images", "blank.png", *UNSURE)
    assert "written: model.pt" in capsys.readouterr().out


def test_it_is_said_where_no_box_can_be_compared(run, capsys, monkeypatch):
    # As of a model that keeps its threshold where the exporter does not set it.
    monkeypatch.setattr(DenseExporter, "set_score_threshold", lambda self, value: None)
    run(*SMALL, *UNSURE)
    assert "warning: the model detects nothing in these images" in capsys.readouterr().out
