"""Python snippets of README and documentation run as they are, on made-up data and a tiny model.

Those of extending.md are files of the example plugin, which tests/test_extending.py trains.
"""

import re
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

import d2ext
from tests.helpers.onnx_files import write_one_box_file
from tests.helpers.training import TinyDetector

ROOT = Path(__file__).parents[2]
PAGES = [
    page
    for page in (ROOT / "README.md", *ROOT.glob("docs/*.md"), *ROOT.glob("projects/*/README.md"))
    if page.name != "extending.md"
]
BLOCK = re.compile(r"(?s)```python\n(.*?)```")
SNIPPETS = [
    pytest.param(text, id=f"{page.parent.name}/{page.stem}-{number}")
    for page in PAGES
    for number, text in enumerate(BLOCK.findall(page.read_text(encoding="utf-8")))
]
QUICK = {
    "MODEL.META_ARCHITECTURE": TinyDetector.__name__,
    "MODEL.DEVICE": "cpu",
    "INPUT.MIN_SIZE_TRAIN": (32,),
    "INPUT.MIN_SIZE_TEST": 32,
    "SOLVER.IMS_PER_BATCH": 2,
    "SOLVER.LR_SCHEDULER_NAME": "WarmupCosineLR",
    "DATALOADER.NUM_WORKERS": 0,
    "TEST.PICTURES": 0,
}


def write_images(folder: Path, count: int) -> None:
    folder.mkdir(parents=True)
    random = np.random.default_rng(count)
    for number in range(count):
        pixels = random.integers(0, 256, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")


def write_yolo(folder: Path) -> None:
    for split, count in ("train", 4), ("val", 2):
        write_images(folder / "images" / split, count)
        (folder / "labels" / split).mkdir(parents=True)
        for number in range(count):
            label = f"{number % 2} 0.25 0.25 0.25 0.25\n"
            (folder / "labels" / split / f"{number}.txt").write_text(label)
    names = "train: images/train\nval: images/val\nnames: [dot, cross]\n"
    (folder / "data.yaml").write_text(names)


def write_video(path: Path) -> None:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 10.0, (32, 32))
    for number in range(3):
        writer.write(np.full((32, 32, 3), 40 * number, np.uint8))
    writer.release()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What the snippets name: data, photos, a video, and a trained model in output/."""
    folder = tmp_path_factory.mktemp("snippets")
    write_yolo(folder / "my" / "data")
    write_images(folder / "photos", 2)
    write_video(folder / "clip.mp4")
    Image.fromarray(np.full((128, 160, 3), (0, 0, 255), np.uint8)).save(folder / "a.jpg")
    write_one_box_file(folder / "model.onnx")
    config = folder / "tiny.yaml"
    config.write_text("VERSION: 2\n")
    data = folder / "my" / "data"
    d2ext.train(data, config=config, epochs=1, output=folder / "output", quiet=True, **QUICK)
    return folder


@pytest.mark.parametrize("snippet", SNIPPETS)
def test_a_snippet_runs(snippet, folder, monkeypatch):
    monkeypatch.chdir(folder)
    # A recipe for real data would take minutes.
    monkeypatch.setattr(d2ext, "train", partial(d2ext.train, config="tiny.yaml", **QUICK), False)
    exec(compile(snippet, "snippet", "exec"), {"__name__": "snippet"})


def test_the_pages_have_the_snippets_that_are_run():
    assert len(SNIPPETS) >= 4
