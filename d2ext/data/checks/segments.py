"""Panoptic checks: segment maps compared with images, and segments with segment maps."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from d2ext.data.box_validity import Floats
from d2ext.data.checks.context import CheckContext
from d2ext.data.checks.semantic import compare_size
from d2ext.data.formats import Item
from d2ext.data.parallel import map_files
from d2ext.data.segment_maps import VOID, read_segment_ids, run_starts
from d2ext.text import first_few

_SAME_BOX = 0.9  # IoU from which two things of a class are one thing, perhaps
_AREA_SLACK = 0.01  # share of its pixels by which an annotated area may differ


@dataclass(frozen=True)
class SegmentMapInfo:
    """What is known of a segment map.

    Args:
        problem: the reason why it cannot be read, "" for none.
        size: width and height in pixels.
        pixels: number of pixels of each id, without void.
    """

    problem: str = ""
    size: tuple[int, int] = (0, 0)
    pixels: dict[int, int] | None = None


def read_segment_map_info(path: str) -> SegmentMapInfo:
    """Read a segment map and count its ids; nothing is raised, problems are part of the info."""
    try:
        ids = read_segment_ids(path)
    except OSError as error:
        return SegmentMapInfo(error.strerror or str(error))
    starts = run_starts(ids)
    values, index = np.unique(ids.ravel()[starts], return_inverse=True)
    counts = np.bincount(index, np.diff(starts, append=ids.size)).astype(int)
    pixels = dict(zip(values.tolist(), counts.tolist(), strict=True))
    pixels.pop(VOID, None)
    return SegmentMapInfo("", (ids.shape[1], ids.shape[0]), pixels)


def check_segments(context: CheckContext) -> None:
    """Compare the segment maps of panoptic data with their images and with the listed segments."""
    if context.split.task != "panoptic":
        return
    files = [image["pan_seg_file_name"] for image in context.images]
    infos = map_files(read_segment_map_info, files, progress="maps" if context.progress else "")
    void = set(context.split.metadata.get("void_ids", ()))
    for number, file in enumerate(files):
        info = infos[file]
        segments = context.images[number]["segments_info"]
        _check_shared_ids(context, number, segments)
        _check_same_boxes(context, number, segments)
        if info.pixels is None:
            context.add_image("labels-missing", number, f"{file}: {info.problem}")
        else:
            compare_size(context, number, file, info.size)
            _check_pixels(context, number, info.pixels, void)


def _check_pixels(
    context: CheckContext, number: int, pixels: dict[int, int], void: set[int]
) -> None:
    image = context.images[number]
    listed = {segment["id"]: segment for segment in image["segments_info"]}
    if unlisted := pixels.keys() - listed.keys() - void:
        found = first_few(f"{i} ({pixels[i]} pixels)" for i in sorted(unlisted))
        context.add_image("segment-unlisted", number, f"{image['pan_seg_file_name']}: {found}")
    for value, segment in listed.items():
        count = pixels.get(value, 0)
        if not count:
            _add(context, "segment-empty", number, segment, "no pixel")
        elif abs(segment.get("area", count) - count) > _AREA_SLACK * count:
            detail = f"area {segment['area']:.6g}, {count} pixels"
            _add(context, "segment-area", number, segment, detail)


def _check_shared_ids(context: CheckContext, number: int, segments: Sequence[Item]) -> None:
    counts = Counter(segment["id"] for segment in segments)
    for segment in {s["id"]: s for s in segments if counts[s["id"]] > 1}.values():
        detail = f"{counts[segment['id']]} segments have this id"
        _add(context, "segment-overlap", number, segment, detail)


def _check_same_boxes(context: CheckContext, number: int, segments: Sequence[Item]) -> None:
    things = [s for s in segments if s["isthing"] and not s["iscrowd"] and "bbox" in s]
    if len(things) < 2:
        return
    labels = np.array([thing["category_id"] for thing in things])
    iou = _box_iou(np.array([thing["bbox"] for thing in things], dtype=np.float64))
    same = (iou >= _SAME_BOX) & (labels[:, None] == labels)
    for first, second in zip(*np.nonzero(np.triu(same, 1)), strict=True):
        if things[first]["id"] != things[second]["id"]:
            detail = f"overlaps segment {things[first]['id']} by {iou[first, second]:.0%}"
            _add(context, "segment-duplicate", number, things[second], detail)


def _box_iou(boxes: Floats) -> Floats:
    """Return the pairwise IoU of (N, 4) XYWH boxes."""
    low, high = boxes[:, :2], boxes[:, :2] + boxes[:, 2:]
    sides = np.minimum(high[:, None], high) - np.maximum(low[:, None], low)
    common = sides.clip(min=0).prod(axis=2)
    areas = boxes[:, 2:].prod(axis=1)
    unions = areas[:, None] + areas - common
    return np.divide(common, unions, where=unions > 0, out=np.zeros_like(common))


def _add(context: CheckContext, code: str, number: int, segment: Item, detail: str) -> None:
    label = context.split.classes[segment["category_id"]]
    file = context.images[number]["pan_seg_file_name"]
    context.add_image(code, number, f"{label}, segment {segment['id']} of {file}: {detail}")
