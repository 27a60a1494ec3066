"""CVAT for images 1.1: one XML file with the boxes and polygons of all images.

`rotation` of a box is in degrees, clockwise about its centre. Coordinates are edges in pixels.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree
from xml.parsers import expat

from d2ext.data.formats.corners import corners_of
from d2ext.data.formats.dataset_split import DatasetSplit, Item, number_classes
from d2ext.data.formats.image_files import ImageIndex, child, files_in, split_of
from d2ext.data.formats.voc import parse_xml
from d2ext.data.issues import reading_issue
from d2ext.errors import DataError
from detectron2.structures import BoxMode

FORMAT = "CVAT for images"
_EDGES = ("xtl", "ytl", "xbr", "ybr")
_HEAD = 1 << 12


@dataclass(frozen=True)
class CvatSplit:
    """An XML file and the folders where its images may be."""

    path: Path
    split: str
    image_folders: tuple[Path, ...]


def is_cvat(file: Path) -> bool:
    """Return true for an XML file whose root is CVAT's <annotations>."""
    try:
        with file.open("rb") as stream:
            return b"<annotations" in stream.read(_HEAD)
    except OSError:
        return False


def find(path: Path, images: Path | None) -> dict[str, CvatSplit]:
    """Find the splits of a CVAT export at `path`; {} if it is something else."""
    files = [path] if path.suffix.lower() == ".xml" else files_in(path, ".xml")
    files = [file for file in files[:2] if is_cvat(file)]
    if len(files) != 1:
        return {}
    here = files[0].parent
    inside = child(here, "images", "imgs", "data")
    folders = (images,) if images is not None else (*filter(None, (inside,)), here)
    return {"": CvatSplit(files[0], split_of(files[0].stem), folders)}


def load(part: CvatSplit) -> DatasetSplit:
    """Read boxes and polygons; other shapes become issues.

    Raises:
        DataError: the XML is broken, or it is an export of a video, which has tracks.
    """
    try:
        root = parse_xml(part.path)
    except (expat.ExpatError, ValueError, OSError) as error:
        raise DataError(f"{part.path}: broken XML: {error}. Export it from CVAT again.") from error
    if root.find("image") is None:
        raise DataError(
            f"{part.path}: CVAT's XML without <image>, as exports of videos have it. Export the "
            "task from CVAT as COCO 1.0 or Pascal VOC, with its images."
        )
    dataset = DatasetSplit(FORMAT, part.path, part.split, "boxes", (), [])
    index = ImageIndex(part.image_folders)
    for element in root.iter("image"):
        _add_image(dataset, element, index)
    dataset.classes = number_classes(dataset.images)
    items = [item for image in dataset.images for item in image["annotations"]]
    _settle_task(dataset, items)
    return dataset


def _add_image(dataset: DatasetSplit, element: ElementTree.Element, index: ImageIndex) -> None:
    name = element.get("name") or ""
    size = _numbers(element, ("width", "height"))
    if size is None or min(size) < 1 or not name:
        what = "image without a name or a size"
        dataset.issues.append(reading_issue("record-broken", what, str(dataset.path), name))
        return
    image: Item = {
        "file_name": str(index.find(name) or index.folders[0] / name),
        "image_id": len(dataset.images) + 1,
        "width": int(size[0]),
        "height": int(size[1]),
        "annotated_in": str(dataset.path),
        "annotations": [],
    }
    dataset.images.append(image)
    shapes = [shape for shape in element if shape.tag != "tag"]
    for number, shape in enumerate(shapes, start=1):
        record = f"image {element.get('id')}, shape {number}"
        found, label = _object(shape), shape.get("label")
        if found is None or not label:
            where, what = f"{dataset.path}:{record}", f"shape that cannot be read: {shape.tag}"
            issue = reading_issue("record-broken", what, where, image["file_name"], label or "")
            dataset.issues.append(issue)
        else:
            found |= {"category": label, "iscrowd": 0, "record": record}
            image["annotations"].append(found)


def _object(shape: ElementTree.Element) -> Item | None:
    """Return the box, and the polygon if the shape is one; None for any other shape."""
    if shape.tag == "box" and (edges := _numbers(shape, _EDGES)) is not None:
        x0, y0, x1, y1 = edges
        angle = (_numbers(shape, ("rotation",)) or [0.0])[0]
        if angle % 360:
            turned = (180 - angle) % 360 - 180  # counter-clockwise, as Detectron2 has it
            box = [(x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0, turned]
            return {"bbox": box, "bbox_mode": BoxMode.XYWHA_ABS}
        return {"bbox": [x0, y0, x1 - x0, y1 - y0], "bbox_mode": BoxMode.XYWH_ABS}
    if shape.tag == "polygon":
        try:
            points = [float(n) for n in (shape.get("points") or "").replace(";", ",").split(",")]
        except ValueError:
            return None
        return _polygon(points) if len(points) >= 6 and len(points) % 2 == 0 else None
    return None


def _polygon(points: list[float]) -> Item:
    xs, ys = points[::2], points[1::2]
    box = [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]
    return {"bbox": box, "bbox_mode": BoxMode.XYWH_ABS, "segmentation": [points]}


def _settle_task(dataset: DatasetSplit, items: list[Item]) -> None:
    """Make all boxes of one kind: with an angle if one has one, polygons among masks."""
    masks = any("segmentation" in item for item in items)
    rotated = any(len(item["bbox"]) == 5 for item in items)
    dataset.task = "masks" if masks else "rotated" if rotated else "boxes"
    for item in items:
        if masks and len(item["bbox"]) == 5:
            item |= _polygon(corners_of(item["bbox"]))
        elif rotated and not masks and len(item["bbox"]) == 4:
            x, y, w, h = item["bbox"]
            item |= {"bbox": [x + w / 2, y + h / 2, w, h, 0.0], "bbox_mode": BoxMode.XYWHA_ABS}


def _numbers(element: ElementTree.Element, keys: tuple[str, ...]) -> list[float] | None:
    try:
        found = [float(element.get(key, "")) for key in keys]
    except ValueError:
        return None
    return found if all(map(math.isfinite, found)) else None
