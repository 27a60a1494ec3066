"""Label Studio's keypoints: points of the region that is their parent or that they relate to."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from d2ext.data.formats.dataset_split import Item
from d2ext.data.formats.single_points import add_point
from d2ext.data.formats.values import as_numbers

POINT_KINDS = ("keypoint", "keypointlabels")
RELATION = "relation"  # type of a result that joins two regions, by "from_id" and "to_id"


def relations_of(regions: Iterable[Any]) -> dict[str, list[str]]:
    """Return the ids of the regions that each region relates to, in either direction."""
    related: dict[str, list[str]] = {}
    for region in regions:
        if isinstance(region, dict) and region.get("type") == RELATION:
            ends = str(region.get("from_id")), str(region.get("to_id"))
            for own, other in (ends, ends[::-1]):
                related.setdefault(own, []).append(other)
    return related


def add_region_point(
    region: Item,
    value: Item,
    label: str,
    size: tuple[int, int],
    objects: Mapping[str, Item],
    related: Mapping[str, Sequence[str]],
) -> str:
    """Give a point to its object and return what is wrong with it, as `add_point` does.

    Args:
        region, value: the point, and its values as `region_values` returns them.
        label: its first label, which names the keypoint.
        size: width and height of the image in pixels.
        objects: by the ids of their regions.
        related: as `relations_of` returns them.
    """
    shares = as_numbers([value.get("x"), value.get("y")]) or []
    place = [share * side / 100 for share, side in zip(shares, size, strict=False)]
    parent = region.get("parentID")
    ids = related.get(str(region.get("id")), ()) if parent is None else (str(parent),)
    owners = [objects[each] for each in dict.fromkeys(ids) if each in objects]
    return add_point(owners, "parent or relation", label, place)
