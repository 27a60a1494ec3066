"""A data set as Pascal VOC has it: Annotations, JPEGImages, ImageSets/Main."""

import math
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

from d2ext.data.conversion.plan import Losses, Plan, without_crowds
from d2ext.data.formats import Item
from d2ext.data.formats.voc import FROM_ONE


def write_voc(folder: Path, plans: Sequence[Plan], losses: Losses) -> dict[str, Path]:
    """Write XML files and image sets; returns where the images of each split belong.

    Boxes, rotated ones too (`robndbox`), and `difficult` fit in. Pixels count from 1, as in VOC.
    """
    annotations, sets = folder / "Annotations", folder / "ImageSets" / "Main"
    annotations.mkdir()
    sets.mkdir(parents=True)
    for plan in plans:
        for image, name in zip(plan.dataset.images, plan.names, strict=True):
            tree = ElementTree.ElementTree(_annotation(plan, image, name, losses))
            ElementTree.indent(tree)
            file = annotations / f"{Path(name).stem}.xml"
            tree.write(file, encoding="utf-8", xml_declaration=True)
        stems = "".join(f"{Path(name).stem}\n" for name in plan.names)
        (sets / f"{plan.split or 'train'}.txt").write_text(stems, encoding="utf-8")
    return {plan.split: folder / "JPEGImages" for plan in plans}


def _annotation(plan: Plan, image: Item, name: str, losses: Losses) -> ElementTree.Element:
    root = ElementTree.Element("annotation")
    _add(root, "folder", "JPEGImages")
    _add(root, "filename", name)
    _add(ElementTree.SubElement(root, "source"), "annotation", FROM_ONE)
    size = ElementTree.SubElement(root, "size")
    for key in ("width", "height"):
        _add(size, key, str(image[key]))
    _add(size, "depth", "3")
    for item in without_crowds(image, losses):
        _add_object(root, item, plan.dataset.classes[item["category_id"]], losses)
    return root


def _add_object(root: ElementTree.Element, item: Item, name: str, losses: Losses) -> None:
    losses["masks"] += "segmentation" in item
    losses["keypoints"] += "keypoints" in item
    found = ElementTree.SubElement(root, "object")
    _add(found, "name", name)
    _add(found, "difficult", str(int(bool(item.get("difficult")))))
    if len(item["bbox"]) == 5:
        *numbers, angle = item["bbox"]
        box = ElementTree.SubElement(found, "robndbox")
        values = dict(zip(("cx", "cy", "w", "h"), numbers, strict=True))
        values["angle"] = math.radians(-angle) % (2 * math.pi)
    else:
        x, y, w, h = item["bbox"]
        box = ElementTree.SubElement(found, "bndbox")
        values = {"xmin": x + 1, "ymin": y + 1, "xmax": x + w, "ymax": y + h}
    for key, value in values.items():
        _add(box, key, f"{value:.6f}".rstrip("0").rstrip("."))


def _add(parent: ElementTree.Element, tag: str, text: str) -> None:
    ElementTree.SubElement(parent, tag).text = text
