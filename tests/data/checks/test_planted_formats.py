"""Issues planted in files of other formats: each is reported with its line."""

import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from d2ext.data.checks.check import check_splits
from d2ext.data.checks.fixed_copy import write_fixed_copy
from d2ext.data.checks.report import Report
from d2ext.data.dataset_paths import load_named_splits
from d2ext.data.segment_maps import encode_segment_ids
from tests.helpers.panoptic_data import HEIGHT, segment_ids, write_panoptic
from tests.helpers.planted_dataset import picture

COUNT = 5  # images
MAP, SEGMENTS = "panoptic_train/train_2.png", "panoptic_train.json"
IMAGE, LABELS = "images/2.jpg", "labels/2.txt"


class Plant(NamedTuple):
    """An issue to plant.

    Args:
        code: of the kind that is reported.
        file: the file to spoil, below the data set.
        text: what becomes of its content; None: it is removed.
        words: parts of the line about it.
        left: images that training keeps.
        split: to learn from, where the data set has several.
        late: spoil the file after the data set was read.
    """

    code: str
    file: str
    text: Callable[[bytes], bytes] | None
    words: Sequence[str]
    left: int = COUNT
    split: str = ""
    late: bool = False


def becomes(text: str) -> Callable[[bytes], bytes]:
    return lambda content: text.encode()


def encoded(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


def and_line(text: str) -> Callable[[bytes], bytes]:
    return lambda content: content + text.encode() + b"\n"


def segment_map(
    part: Callable[[np.ndarray], np.ndarray], number: int, rows: int = HEIGHT
) -> Callable[[bytes], bytes]:
    """Draws a part of the image's segment map with another id, and keeps some rows of it."""
    ids = segment_ids(2)
    part(ids)[...] = number
    return lambda content: encoded(Image.fromarray(encode_segment_ids(ids[:rows])))


def segment(image: int, position: int, **values: object) -> Callable[[bytes], bytes]:
    """Changes values of a segment in COCO's panoptic JSON."""

    def change(content: bytes) -> bytes:
        document = json.loads(content)
        document["annotations"][image]["segments_info"][position] |= values
        return json.dumps(document).encode()

    return change


def without(text: str) -> Callable[[bytes], bytes]:
    return lambda content: content.replace(text.encode(), b"")


def yolo(folder: Path) -> Path:
    (folder / "data.yaml").write_text("path: .\ntrain: images\nval: images\nnames: [cat, dog]\n")
    for n in range(COUNT):
        lines = [f"0 0.3 0.3 0.3 0.{2 + n}", f"1 0.7 0.6 0.4 0.{3 + n}"]
        write(folder / f"labels/{n}.txt", "\n".join(lines) + "\n")
    (folder / "data.yaml").write_text("path: .\ntrain: images\nnames: [cat, dog]\n")
    return folder / "data.yaml"


def voc(folder: Path) -> Path:
    for n in range(COUNT):
        items = [
            f"<object><name>{name}</name><bndbox><xmin>{x}</xmin><ymin>4</ymin><xmax>{x + 20}"
            f"</xmax><ymax>{25 + n}</ymax></bndbox></object>"
            for name, x in (("cat", 5), ("dog", 40))
        ]
        size = "<size><width>64</width><height>48</height><depth>3</depth></size>"
        text = f"<annotation><filename>{n}.jpg</filename>{size}{''.join(items)}\n</annotation>"
        write(folder / f"Annotations/{n}.xml", text)
    return folder


def table(folder: Path) -> Path:
    lines = ["image,xmin,ymin,xmax,ymax,label"]
    for n in range(COUNT):
        lines += [f"images/{n}.jpg,5,4,25,{25 + n},cat", f"images/{n}.jpg,40,4,60,{25 + n},dog"]
    return write(folder / "labels.csv", "\n".join(lines) + "\n")


def dota(folder: Path) -> Path:
    for n in range(COUNT):
        lines = [f"5 4 25 4 25 {25 + n} 5 {25 + n} cat 0", "40 10 60 12 58 40 38 38 dog 0"]
        write(folder / f"labelTxt/{n}.txt", "\n".join(lines) + "\n")
    return folder


def masks(folder: Path) -> Path:
    for n in range(COUNT):
        pixels = np.zeros((48, 64), dtype=np.uint8)
        pixels[10 : 30 + n, 20:50] = 1
        write(folder / f"labels/{n}.png", png(pixels))
    write(folder / "classes.txt", "ground\nhouse\n")
    return folder


def panoptic(folder: Path) -> Path:
    for path in folder.glob("images/*"):
        path.unlink()  # the data set has images of its own
    return write_panoptic(folder, COUNT)


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def png(pixels: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def labels(value: int | tuple[int, ...], height: int = 48) -> Callable[[bytes], bytes]:
    """A label image of one value or colour."""
    shape = (height, 64, len(value)) if isinstance(value, tuple) else (height, 64)
    return lambda content: png(np.full(shape, value, dtype=np.uint8))


FORMATS: dict[str, Callable[[Path], Path]] = {
    "yolo": yolo,
    "voc": voc,
    "csv": table,
    "dota": dota,
    "masks": masks,
    "panoptic": panoptic,
}
PLANTS = {
    "yolo: another number of classes": Plant(
        "class-count", "data.yaml", and_line("nc: 3"), ["data.yaml", "nc is 3", "2 classes"]
    ),
    "voc: another image of the stem": Plant(
        "annotation-shared", "images/2.png", becomes("x"), ["2.png", "2.xml", "2.jpg"]
    ),
    "yolo: no such class": Plant("class-unknown", LABELS, and_line("7 .5 .5 .2 .2"), ["2.txt:3"]),
    "yolo: word": Plant(
        "record-broken", LABELS, and_line("zebra .5 .5 .2 .2"), ["2.txt:3", "zebra"]
    ),
    "yolo: three numbers": Plant("record-broken", LABELS, and_line("0 .5 .5 .2"), ["2.txt:3"]),
    "yolo: pixels": Plant("record-broken", LABELS, and_line("0 30 20 9 9"), ["2.txt:3", "30"]),
    "yolo: no width": Plant("box-empty", LABELS, and_line("0 .5 .5 0 .2"), ["2.txt:3"]),
    "yolo: nan": Plant("box-nonfinite", LABELS, and_line("0 nan .5 .1 .2"), ["2.txt:3"]),
    "yolo: over the edge": Plant("box-beyond", LABELS, and_line("0 .9 .3 .5 .2"), ["2.txt:3"]),
    "yolo: twice": Plant(
        "box-duplicate", LABELS, lambda c: c + c.split(b"\n")[0], ["2.txt:3", "2.txt:1"]
    ),
    "yolo: labels of nothing": Plant(
        "annotation-orphan", "labels/x.txt", becomes("0 .5 .5 .2 .2"), ["x.txt", "named x"]
    ),
    "yolo: image removed": Plant(
        "annotation-orphan", IMAGE, None, ["2.txt", "no image is named 2"], COUNT - 1
    ),
    "yolo: image empty": Plant("image-empty", IMAGE, becomes(""), ["2.jpg", "0 bytes"], COUNT - 1),
    "yolo: image cut": Plant("image-truncated", IMAGE, lambda c: c[:-90], ["2.jpg"], COUNT - 1),
    "yolo: same stem": Plant(
        "annotation-shared",
        "images/2.png",
        lambda _: encoded(picture(99)),
        ["2.png", "2.txt is that of 2.jpg, too"],
        COUNT + 1,
    ),
    "yolo: no labels": Plant("image-without-objects", LABELS, None, ["2.jpg"]),
    "yolo: no test images": Plant(
        "split-missing",
        "data.yaml",
        becomes("path: .\ntrain: images\ntest: none\nnames: [cat, dog]\n"),
        ["data.yaml: test: none does not exist"],
        split="train",
    ),
    "yolo: class unused": Plant(
        "class-unused",
        "data.yaml",
        becomes("path: .\ntrain: images\nnames: [cat, dog, bird]\n"),
        ["'bird'"],
    ),
    "voc: broken": Plant(
        "file-unreadable", "Annotations/2.xml", without("</size>"), ["2.xml"], COUNT - 1
    ),
    "voc: no name": Plant(
        "record-broken", "Annotations/2.xml", without("<name>cat</name>"), ["2.xml:object 1"]
    ),
    "voc: no box": Plant(
        "record-broken", "Annotations/2.xml", without("<xmin>5</xmin>"), ["2.xml:object 1"]
    ),
    "voc: corners the wrong way": Plant(
        "box-empty",
        "Annotations/2.xml",
        lambda c: c.replace(b"<xmin>5<", b"<xmin>35<"),
        ["2.xml:object 1"],
    ),
    "voc: no image": Plant("image-missing", IMAGE, None, ["2.jpg"], COUNT - 1),
    "voc: another size": Plant(
        "image-size",
        "Annotations/2.xml",
        lambda c: c.replace(b"<width>64<", b"<width>65<"),
        ["64 x 48 pixels", "says 65 x 48"],
        COUNT - 1,
    ),
    "voc: listed without a file": Plant(
        "file-missing",
        "ImageSets/Main/train.txt",
        becomes("0\n1\n2\n3\n4\nx\n"),
        ["train.txt:6", "x"],
        split="train",
    ),
    "csv: no image": Plant(
        "image-missing", "labels.csv", and_line("images/x.jpg,1,2,3,4,cat"), ["labels.csv:12"]
    ),
    "csv: no label": Plant(
        "record-broken", "labels.csv", and_line("images/2.jpg,1,2,9,9,"), ["labels.csv:12"]
    ),
    "csv: word": Plant(
        "record-broken", "labels.csv", and_line("images/2.jpg,1,2,x,9,cat"), ["labels.csv:12"]
    ),
    "csv: outside": Plant(
        "box-outside", "labels.csv", and_line("images/2.jpg,70,2,80,9,cat"), ["labels.csv:12"]
    ),
    "dota: seven numbers": Plant(
        "record-broken", "labelTxt/2.txt", and_line("1 2 3 4 5 6 7 cat 0"), ["2.txt:3"]
    ),
    "dota: no image": Plant("annotation-orphan", IMAGE, None, ["2.txt"], COUNT - 1),
    "dota: corner outside": Plant(
        "box-corner-outside",
        "labelTxt/2.txt",
        and_line("50 20 70 30 65 40 45 30 cat 0"),
        ["2.txt:3"],
    ),
    "dota: difficult": Plant(
        "object-difficult", "labelTxt/2.txt", and_line("10 30 20 30 20 40 10 40 cat 1"), ["2.txt:3"]
    ),
    "masks: another size": Plant(
        "labels-size", "labels/2.png", labels(1, 40), ["64 x 40", "64 x 48"], COUNT - 1
    ),
    "masks: no such class": Plant(
        "labels-unlisted", "labels/2.png", labels(9), ["labels/2.png", "9", "3072 pixels"]
    ),
    "masks: nothing labelled": Plant("labels-ignored", "labels/2.png", labels(255), ["2.png"]),
    "masks: colours after reading": Plant(
        "labels-channels",
        "labels/2.png",
        labels((1, 2, 3)),
        ["2.png", "mode RGB"],
        late=True,
    ),
    "masks: a part not labelled": Plant(
        "labels-much-ignored",
        "labels/2.png",
        lambda c: png(np.pad(np.ones((46, 64), np.uint8), ((0, 2), (0, 0)), constant_values=255)),
        ["2.png: 4.2% of the pixels"],
    ),
    "masks: two colours of a class": Plant(
        "class-colours",
        "list.json",
        becomes('[{"name": "House", "color": "#112233"}, {"name": "house", "color": [1, 2, 3]}]'),
        ["list.json", "'house' is #010203", "#112233"],
    ),
    "masks: unreadable": Plant(
        "labels-missing", "labels/2.png", becomes("oops"), ["2.png"], COUNT - 1
    ),
    "panoptic: unlisted ids": Plant(
        "segment-unlisted", MAP, segment_map(lambda ids: ids[:5, :4], 99), ["2.png", "99 (20 pix"]
    ),
    "panoptic: nothing drawn": Plant(
        "segment-empty", SEGMENTS, segment(2, 3, id=444), ["dog, segment 444", "train_2.png"]
    ),
    "panoptic: another area": Plant(
        "segment-area", SEGMENTS, segment(2, 2, area=500), ["cat, segment 1 ", "500, 192 pixels"]
    ),
    "panoptic: one id twice": Plant(
        "segment-overlap", SEGMENTS, segment(2, 2, id=700), ["segment 700", "2 segments"]
    ),
    "panoptic: a thing twice": Plant(
        "segment-duplicate",
        SEGMENTS,
        segment(2, 4, bbox=[4, 20, 10, 10]),
        ["dog, segment 3", "overlaps segment 2 by 100%"],
    ),
    "panoptic: map of another size": Plant(
        "labels-size", MAP, segment_map(lambda ids: ids[:1], 1, 40), ["64 x 40"], COUNT - 1
    ),
    "panoptic: no map": Plant("labels-missing", MAP, None, ["train_2.png"], COUNT - 1),
    "masks: removed": Plant("labels-missing", "labels/2.png", None, ["2.jpg"], COUNT - 1),
}


def planted(folder: Path, name: str) -> tuple[Path, Report]:
    for n in range(COUNT):
        place = folder / "images" / f"{n}.jpg"
        place.parent.mkdir(parents=True, exist_ok=True)
        picture(n).save(place, quality=92)
    path = FORMATS[name.partition(":")[0]](folder)
    return path, check_splits(load_named_splits(str(path), []))


@pytest.mark.parametrize("name", FORMATS)
def test_good_files_have_no_issues(name, tmp_path, learn):
    path, report = planted(tmp_path / "data", name)
    assert report.issues == []
    assert len(learn(str(path))) == COUNT


def spoil(folder: Path, case: Plant) -> None:
    path = folder / case.file
    if case.text is None:
        path.unlink()
    else:
        write(path, case.text(path.read_bytes() if path.exists() else b""))


@pytest.mark.parametrize("name", PLANTS)
def test_a_planted_issue(name, tmp_path, learn):
    folder, case = tmp_path / "data", PLANTS[name]
    path, _ = planted(folder, name)
    splits = load_named_splits(str(path), []) if case.late else {}
    spoil(folder, case)
    before = {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}

    splits = splits or load_named_splits(str(path), [])
    report = check_splits(splits)
    found = [issue for issue in report.issues if issue.code == case.code]
    assert len(found) == 1, report.text()
    for part in case.words:
        assert part in f"{found[0].where}: {found[0].detail}"
    assert len(learn(str(path), split=case.split)) == case.left
    write_fixed_copy(splits, report, tmp_path / "out")
    assert {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()} == before
