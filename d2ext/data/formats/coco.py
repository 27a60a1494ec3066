"""COCO's JSON: boxes, polygons, run lengths, crowds, keypoints, boxes with an angle, panoptic."""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

from d2ext.data.formats.coco_document import (
    check_not_empty,
    collection_paused,
    read_json,
    refusal,
    unread_refusal,
    with_coco_keys,
)
from d2ext.data.formats.coco_geometry import (
    are_near_polygons,
    is_named_point,
    mask_box,
    parse_box,
    parse_segmentation,
)
from d2ext.data.formats.coco_ids import id_issues
from d2ext.data.formats.coco_images import (
    IDS,
    categories,
    drop_empty_group,
    image_items,
    parse_values,
)
from d2ext.data.formats.coco_layout import CocoSplit, find
from d2ext.data.formats.corners import corners_of
from d2ext.data.formats.dataset_split import DatasetSplit, Item, Task
from d2ext.data.formats.keypoint_names import mirror_pairs
from d2ext.data.formats.panoptic import read_panoptic
from d2ext.data.formats.semantic import is_mask_list, read_mask_list
from d2ext.data.formats.values import as_id, as_numbers, is_true
from d2ext.data.image_info_cache import start_reading
from d2ext.data.issues import Issue, reading_issue
from d2ext.data.keypoint_validity import keypoint_count
from detectron2.structures import BoxMode

__all__ = ["FORMAT", "CocoSplit", "find", "load"]

FORMAT = "COCO"

_FAR = 1e18  # square pixels; JSON's whole numbers may be larger than any float
_KEPT = ("difficult", "area")  # of an annotation, where it has them


def load(part: CocoSplit) -> DatasetSplit:
    """Read a JSON file in any of COCO's formats.

    Raises:
        DataError: it cannot be read, is no COCO file, has no images or none of them is found.
    """
    with collection_paused():
        encodings: Counter[str] = Counter()
        document, digest, is_ascii = read_json(part.path, encodings)
        if is_mask_list(document):
            return read_mask_list(part, document)
        if _is_panoptic(document):
            return read_panoptic(part, document)
        dataset, is_complete = _Reader(part, with_coco_keys(part.path, document)).read()
        dataset.digest, dataset.encodings = digest, encodings
        # pycocotools opens files with the machine's encoding, which need not be UTF-8.
        plain = is_ascii and not encodings
        dataset.coco_file = part.path if is_complete and plain else None
        return dataset


class _Reader:
    """Turns a document with images, annotations and categories into a `DatasetSplit`.

    The document is used up: at COCO's size it and its copy together would not fit into memory.
    """

    def __init__(self, part: CocoSplit, document: Item) -> None:
        self.part, self.document = part, document
        self.issues: list[Issue] = []
        self.mask_issues: list[Issue] = []
        self.unread: list[Item] = []  # annotations that cannot be read
        self.is_complete = "info" in document  # some versions of pycocotools copy it unasked
        self.turned = 0  # boxes with an angle from CVAT's attributes
        self.has_points = True  # each annotation has keypoints, and how many of them are labelled

    def read(self) -> tuple[DatasetSplit, bool]:
        """Return the split, and true if evaluation can read the file as it is."""
        document, path = self.document, self.part.path
        check_not_empty(path, document, ("images",))
        parse_values(document)
        group = drop_empty_group(document)
        self.is_complete &= not group
        classes, self.indices = categories(path, document["categories"])
        notes = [group] if group else []
        images = image_items(self.part, document["images"], self.issues, notes)
        start_reading([image["file_name"] for image in images])
        self.by_id = {image["image_id"]: image for image in images}
        self.by_text = {str(image["image_id"]): image for image in images}
        self.by_name = {name: classes.index(name) for name in classes if classes.count(name) == 1}
        ids = id_issues(str(path), document)
        refused = refusal(path, document, ids)
        self._add_all(document["annotations"])
        if self.turned:
            notes.append(
                f'{self.turned} boxes are turned by their attribute "rotation", as in CVAT'
            )
            _turn_masks(images)
        task = _settle_task(images)
        notes += self._settle_masks(images)
        self.is_complete &= task != "keypoints" or self.has_points
        self.is_complete &= _has_all_masks_or_none(images)
        dataset = DatasetSplit(
            format=FORMAT,
            path=path,
            split=self.part.split,
            task=task,
            classes=classes,
            images=images,
            issues=self.issues,
            id_issues=ids,
            notes=notes,
            metadata=_metadata(document["categories"], images if task == "keypoints" else ()),
            category_ids=tuple(self.indices) if all(map(_is_int, self.indices)) else (),
            refusal=refused or unread_refusal(path, document, self.unread),
            polygons_near=not self.turned,  # turned boxes become polygons unchecked
        )
        with_ids = not any(issue.code.startswith("object-id") for issue in ids)
        return dataset, self.is_complete and with_ids and not self.issues

    def _add_all(self, annotations: list[Item]) -> None:
        for position in range(len(annotations)):
            item = annotations[position]
            annotations[position] = {}  # so that each is freed as soon as it was read
            self._add(item, position + 1)

    def _add(self, item: Item, number: int) -> None:
        # Nearly a million calls at COCO's size: nothing is called that a sound item does not need.
        get = item.get
        image_id, category_id, given = get("image_id"), get("category_id"), get("segmentation")
        image = self.by_id.get(image_id) if isinstance(image_id, IDS) else None
        category = self.indices.get(category_id) if isinstance(category_id, IDS) else None
        if image is None or category is None:
            image, category = self._by_other_type(image_id, category_id)
        segmentation = given
        if image is None or not given:
            segmentation = None
        elif not are_near_polygons(given, image["width"], image["height"]):
            given, segmentation = self._parse_mask(given, image)
        box = parse_box(get("bbox"), segmentation)
        if image is None or category is None or box is None:
            self._leave_out(item, number, image, category)
            return
        crowd = get("iscrowd")
        ignored = is_true(crowd) or is_true(get("ignore"))
        found = {
            "bbox": box,
            "bbox_mode": BoxMode.XYWH_ABS if len(box) == 4 else BoxMode.XYWHA_ABS,
            "category_id": category,
            "iscrowd": int(ignored),
            "record": item["id"] if "id" in item else f"annotation {number}",  # noqa: SIM401
        }
        image["annotations"].append(found)
        if given:
            found["segmentation"] = segmentation or []
            if segmentation is not given:
                self._check_mask(given, segmentation, found["record"], image)
        area = get("area")
        if isinstance(area, (int, float)) and -_FAR < area < _FAR:
            found["area"] = area
        if "area" not in found or "ignore" in item or box is not get("bbox"):
            self.is_complete = False
        if crowd not in (0, 1):  # None or text
            self.is_complete = False
        if "attributes" in item and not found.get("segmentation"):
            self._turn(found, item["attributes"])
        if "keypoints" in item or "difficult" in item:
            self._add_rest(item, found, image)
        if "keypoints" not in found or "num_keypoints" not in item:
            self.has_points = False

    def _parse_mask(self, given: Any, image: Item) -> tuple[Any, Any]:
        """Return a mask as the file has it, without what exporters write for none; and parsed."""
        if isinstance(given, list) and [] in given:
            # Exporters write [[]] for no mask, as for a box.
            given, self.is_complete = [part for part in given if part != []], False
        if given and isinstance(given, (list, str)) and not _is_polygons(given):
            given, self.is_complete = _as_polygons(given), False
        return given, parse_segmentation(given, image) if given else None

    def _check_mask(self, given: Any, segmentation: Any, record: Any, image: Item) -> None:
        if segmentation is None:
            what = "mask without a polygon of three points"
            self.mask_issues.append(self._issue("mask-polygon", what, record, image, given))
        elif isinstance(segmentation, dict):
            self.is_complete &= given["size"] == segmentation["size"]
            as_it_was = (
                isinstance(given["counts"], list) or given["counts"] == segmentation["counts"]
            )
            self.is_complete &= as_it_was
        elif len(segmentation) < len(given):
            what = f"{len(given) - len(segmentation)} polygons of fewer than three points"
            self.mask_issues.append(self._issue("mask-stray", what, record, image, given))
        elif any(part is not other for part, other in zip(segmentation, given, strict=True)):
            self.is_complete = False  # numbers that are written as text

    def _turn(self, found: Item, attributes: Any) -> None:
        """Turn a box by CVAT's attribute "rotation": degrees clockwise about its centre."""
        angle = as_numbers([attributes.get("rotation")]) if isinstance(attributes, dict) else None
        if angle and angle[0] % 360 and math.isfinite(angle[0]) and len(found["bbox"]) == 4:
            x, y, w, h = found["bbox"]
            found["bbox"] = [x + w / 2, y + h / 2, w, h, (180 - angle[0]) % 360 - 180]
            found["bbox_mode"] = BoxMode.XYWHA_ABS
            self.turned += 1
            self.is_complete = False

    def _by_other_type(self, image_id: Any, category_id: Any) -> tuple[Item | None, int | None]:
        """Find image and category where annotations write ids as text and the lists as numbers."""
        self.is_complete = False
        category, image_id = as_id(category_id), as_id(image_id)
        found = self.indices.get(category) if isinstance(category, IDS) else None
        if found is None and isinstance(category_id, str):
            found = self.by_name.get(category_id)
        return self.by_text.get(str(image_id)) if isinstance(image_id, IDS) else None, found

    def _add_rest(self, item: Item, found: Item, image: Item) -> None:
        given = item.get("keypoints")
        points = given if _is_points(given) else as_numbers(given)
        if points is not given or not isinstance(item.get("num_keypoints", 0), int):
            self.is_complete = False
        if points and _is_points(points):
            found["keypoints"] = shifted(points, 0.5)
        elif given:
            what = "keypoints that are no x, y, visibility"
            issue = self._issue("keypoint-value", what, found["record"], image, given)
            self.issues.append(issue)
        if is_true(item.get("difficult")):
            found["difficult"] = 1

    def _leave_out(self, item: Item, number: int, image: Item | None, category: int | None) -> None:
        self.unread.append(item)
        record = item.get("id", f"annotation {number}")
        if image is None:
            code, what, key = "object-orphan", "annotation of an unknown image", "image_id"
        elif category is None:
            code, what, key = "class-unknown", "unknown category", "category_id"
        else:
            code, what, key = "record-broken", "box that is not four numbers", "bbox"
        self.issues.append(self._issue(code, what, record, image, item.get(key)))

    def _issue(self, code: str, what: str, record: Any, image: Item | None, found: Any) -> Issue:
        where, name = f"{self.part.path}:{record}", image["file_name"] if image else ""
        return reading_issue(code, what, where, name, f"{found!r}"[:80])

    def _settle_masks(self, images: list[Item]) -> list[str]:
        """Forget empty polygons where no object has a mask: exporters of boxes write them.

        Returns:
            A line that says so, if there are any.
        """
        if any(item.get("segmentation") for image in images for item in image["annotations"]):
            self.issues += self.mask_issues
            return []
        self.is_complete &= not self.mask_issues
        for image in images:
            for item in image["annotations"]:
                item.pop("segmentation", None)
        count = len(self.mask_issues)
        return [f"none of {count} masks has a polygon of three points: boxes alone"] * bool(count)


def shifted(keypoints: Sequence[float], by: float) -> list[float]:
    """Shift the x and y of keypoints: COCO stores pixel indices, whose centres are at +0.5."""
    return [n if i % 3 == 2 else n + by for i, n in enumerate(keypoints)]


def _has_all_masks_or_none(images: Sequence[Item]) -> bool:
    """Return true where evaluation finds the mask of each object, or of none."""
    masked = [bool(o.get("segmentation")) for image in images for o in image["annotations"]]
    return all(masked) or not any(masked)


def _is_polygons(value: Any) -> bool:
    """Return true for a list of lists, as COCO has polygons."""
    return isinstance(value, list) and isinstance(value[0], (list, dict)) and len(value[0]) != 2


def _as_polygons(value: list[Any] | str) -> list[Any]:
    """Return one polygon that is a flat list, as VIA writes it, text, or a list of points."""
    are_pairs = all(isinstance(p, list) and len(p) == 2 for p in value)
    are_points = len(value) > 2 and (are_pairs or all(map(is_named_point, value)))
    return [value] if are_points or not isinstance(value[0], (list, dict)) else list(value)


def _is_panoptic(document: Any) -> bool:
    items = document.get("annotations") if isinstance(document, dict) else None
    first = items[0] if isinstance(items, list) and items else None
    return isinstance(first, dict) and "segments_info" in first


def _is_int(value: Any) -> bool:
    return isinstance(value, int)


def _turn_masks(images: list[Item]) -> None:
    """Make boxes with an angle polygons where other objects have masks: one task for all."""
    items = [item for image in images for item in image["annotations"]]
    if not any(item.get("segmentation") for item in items):
        return
    for item in items:
        if len(item["bbox"]) == 5:
            item["segmentation"] = [corners_of(item["bbox"])]
            item["bbox"] = mask_box(item["segmentation"])
            item["bbox_mode"] = BoxMode.XYWH_ABS


def _settle_task(images: list[Item]) -> Task:
    """Return what the annotations are good for; where one box has an angle, all get one."""
    annotations = [item for image in images for item in image["annotations"]]
    if any(len(item["bbox"]) == 5 for item in annotations):
        for item in annotations:
            if len(item["bbox"]) == 4:
                item["bbox"] = list(
                    BoxMode.convert(item["bbox"], BoxMode.XYWH_ABS, BoxMode.XYWHA_ABS)
                )
                item["bbox_mode"] = BoxMode.XYWHA_ABS
        return "rotated"
    if any("keypoints" in item for item in annotations):
        return "keypoints"
    return "masks" if any(item.get("segmentation") for item in annotations) else "boxes"


def _is_points(value: Any) -> bool:
    numbers = isinstance(value, list) and all(isinstance(n, (int, float)) for n in value)
    return numbers and bool(value) and len(value) % 3 == 0


def _metadata(items: Sequence[Item], images: Sequence[Item]) -> dict[str, Any]:
    given = (item.get("keypoints") for item in items)
    names = next(([*map(str, one)] for one in given if one and isinstance(one, list)), None)
    if names is None and images:  # Detectron2 needs names of the points that it mirrors
        objects = (item for image in images for item in image["annotations"])
        names = [f"point_{number}" for number in range(keypoint_count(None, objects))]
    points = {"keypoint_names": names, "keypoint_flip_map": mirror_pairs(names)} if names else {}
    return {"categories": list(items), **points}
