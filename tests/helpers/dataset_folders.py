"""Small data sets on disk for the tests of every format."""

from pathlib import Path

import numpy as np
from PIL import Image


def save_image(path: Path, width: int = 32, height: int = 24) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((height, width, 3), np.uint8)).save(path)
    return path


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def voc_xml(objects: str, name: str = "a.png", size: str = "") -> str:
    size = size or "<size><width>32</width><height>24</height><depth>3</depth></size>"
    return f"<annotation><filename>{name}</filename>{size}{objects}</annotation>"


def voc_box(name: str, corners: str, more: str = "") -> str:
    pairs = zip(("xmin", "ymin", "xmax", "ymax"), corners.split(), strict=True)
    box = "".join(f"<{key}>{value}</{key}>" for key, value in pairs)
    return f"<object><name>{name}</name>{more}<bndbox>{box}</bndbox></object>"
