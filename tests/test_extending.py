"""The example plugin of docs/extending.md trains and runs without a change in d2ext."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

ROOT = Path(__file__).parents[1]
PLUGIN = ROOT / "tests" / "example_plugin"
CONFIG = PLUGIN / "config.yaml"
COLORS = {"red": (220, 40, 40), "blue": (40, 60, 220)}


def write_dots(folder: Path) -> None:
    """Write 12 training and 4 validation images of red and blue dots."""
    random = np.random.default_rng(0)
    for split, count in ("train", 12), ("val", 4):
        lines = []
        for number in range(count):
            image, name = Image.new("RGB", (96, 64), (120, 120, 120)), f"{split}_{number}.png"
            for label, color in COLORS.items():
                x, y, radius = random.uniform((12, 12, 6), (84, 52, 12))
                box = (x - radius, y - radius, x + radius, y + radius)
                ImageDraw.Draw(image).ellipse(box, fill=color)
                lines.append(f"{name} {x:.2f} {y:.2f} {radius:.2f} {label}")
            image.save(folder / name)
        (folder / f"{split}.dots").write_text("\n".join(lines) + "\n")


def run(tool: str, *arguments: str) -> str:
    """Run a command in a process of its own; return what it printed."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(ROOT / "tools" / f"{tool}.py"), *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The output folder of a short training on dots, with a loader worker."""
    folder = tmp_path_factory.mktemp("dots")
    write_dots(folder)
    options = ["SOLVER.MAX_ITER", "60", "DATALOADER.NUM_WORKERS", "1", "SEED", "1"]
    output = ["OUTPUT_DIR", folder / "output"]
    run("train_net", "--config-file", CONFIG, "--train", folder, *options, *output)
    return folder / "output"


@pytest.mark.slow
def test_it_trains_on_its_own_format_and_is_measured_by_its_own_evaluator(trained):
    lines = [json.loads(line) for line in (trained / "metrics.json").read_text().splitlines()]
    losses = [line["total_loss"] for line in lines if "total_loss" in line]
    assert losses[-1] < 0.7 * losses[0]
    errors = [line["count/error"] for line in lines if "count/error" in line]
    assert len(errors) == 1
    assert np.isfinite(errors[0])
    assert len(json.loads((trained / "inference/val/counts.json").read_text())) == 4
    assert "dots, 12 images, 24 boxes" in (trained / "log.txt").read_text()
    assert torch.load(trained / "model_final.pth", weights_only=True)["thing_classes"] == [
        "blue",
        "red",
    ]


@pytest.mark.slow
def test_it_is_exported_by_its_own_exporter(trained):
    weights = ["MODEL.WEIGHTS", trained / "model_final.pth"]
    file = trained / "model.onnx"
    config = ["--config-file", trained / "config.yaml"]
    run("export", *config, "--format", "onnx", "--output", file, *weights)
    assert file.stat().st_size > 10_000


@pytest.mark.slow
def test_the_snippet_for_its_file_prints_what_the_demo_finds(trained):
    file = trained / "model.onnx"
    if not file.exists():
        test_it_is_exported_by_its_own_exporter(trained)
    with Image.open(trained.parent / "val_0.png") as image:
        image.crop((0, 0, 83, 61)).save(trained / "a.jpg")  # multiples of nothing
    weights = ["--weights", trained / "model_final.pth", "--input", trained / "a.jpg"]
    # A training this short gives low scores.
    low = ["--confidence", "0.02"]
    run("demo", *weights, *low, "--output", trained / "found", "--no-pictures")
    (found,) = json.loads((trained / "found" / "predictions.json").read_text())["images"]
    expected = [[each["class_name"], each["score"], *each["box"]] for each in found["detections"]]
    page = (ROOT / "docs" / "export.md").read_text(encoding="utf-8")
    snippet = re.search(r"```python\n(.*?)```", page, re.DOTALL)[1]
    snippet = snippet.replace("score > 0.5", "score > 0.02")
    done = subprocess.run(
        [sys.executable, "-c", snippet], cwd=trained, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    lines = [line.split(maxsplit=2) for line in done.stdout.splitlines()]
    printed = [[name, float(score), *json.loads(box)] for name, score, box in lines]
    assert len(printed) == len(expected) > 0
    for own, wanted in zip(printed, expected, strict=True):
        assert own[0] == wanted[0]
        assert own[1:] == pytest.approx(wanted[1:], abs=0.02)


@pytest.mark.slow
def test_published_weights_are_converted_by_its_own_layout(trained, tmp_path):
    ours = torch.load(trained / "model_final.pth", weights_only=True)["model"]
    renamings = (r"^backbone\.layers\.(\d+)\.0\.", r"net.conv\1."), (r"^head\.cls_logits", "heat")
    published = {}
    for name, value in ours.items():
        for pattern, replacement in (*renamings, (r"^head\.bbox_pred", "box")):
            name = re.sub(pattern, replacement, name)
        published[name] = value
    torch.save(published, tmp_path / "dotnet.pth")
    config = ["--config-file", trained / "config.yaml"]
    run("convert_weights", tmp_path / "dotnet.pth", "--to", tmp_path / "ours.pth", *config)
    converted = torch.load(tmp_path / "ours.pth", weights_only=True)["model"]
    assert set(converted) == set(ours)
    assert all(torch.equal(converted[name], ours[name]) for name in ours)


def test_the_page_shows_the_files_as_they_are():
    page = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
    shown = re.findall(r"`tests/example_plugin/([\w.]+)`:\n\n```\w+\n(.*?)\n```", page, re.DOTALL)
    files = {
        path.name: path.read_text(encoding="utf-8") for path in PLUGIN.iterdir() if path.is_file()
    }
    assert dict(shown) == {name: text.rstrip("\n") for name, text in files.items()}


def test_nothing_in_d2ext_knows_the_plugin():
    words = ("example_plugin", "DotDetector", "CenterHead", "StridedConvs")
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "d2ext").rglob("*.py")]
    assert not [word for word in words if any(word in source for source in sources)]
