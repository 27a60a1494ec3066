"""The check of data sets: every registered check on each split, then the splits compared."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from d2ext.data.checks.boxes import (
    check_boxes,
    check_difficult,
    check_duplicate_boxes,
    check_object_sizes,
)
from d2ext.data.checks.classes import check_class_lists, check_classes
from d2ext.data.checks.context import CheckContext
from d2ext.data.checks.duplicates import check_duplicates
from d2ext.data.checks.images import check_images, check_objects_per_image, check_unused_files
from d2ext.data.checks.input_size import InputSize
from d2ext.data.checks.keypoints import check_keypoints
from d2ext.data.checks.masks import check_masks
from d2ext.data.checks.report import Report
from d2ext.data.checks.segments import check_segments
from d2ext.data.checks.semantic import check_class_colours, check_label_images
from d2ext.data.formats import DatasetSplit
from d2ext.data.formats.coco_document import collection_paused
from d2ext.data.image_info import ImageInfo
from d2ext.data.image_info_cache import read_image_infos

Check = Callable[[CheckContext], None]


def _take_over_issues(context: CheckContext) -> None:
    """Add what the reader found; of images that cannot be read, say why they cannot."""
    for issue in (*context.split.issues, *context.split.id_issues):
        if issue.image is not None and issue.code.startswith("image-"):
            info = context.image_info.get(str(issue.image), ImageInfo())
            if info.problem:
                issue = replace(issue, code=info.problem, detail=info.detail)
        context.issues.append(replace(issue, split=context.name))


# The fixes of an object are applied in this order: box-beyond clips a box before mask-box may
# replace it by the box of the mask.
_CHECKS: list[Check] = [
    _take_over_issues,
    check_images,
    check_unused_files,
    check_classes,
    check_objects_per_image,
    check_boxes,
    check_difficult,
    check_duplicate_boxes,
    check_masks,
    check_keypoints,
    check_segments,
    check_label_images,
    check_class_colours,
    check_object_sizes,
]


def register_check(check: Check) -> Check:
    """Add a check that runs on every split, after those that are registered already.

    Args:
        check: looks at `context.split` and adds issues by `context.add`, `context.add_image` or
            `context.add_object`, whose codes `d2ext.data.checks.kinds.register_kind` made known.
            It returns without a word where the split has nothing that concerns it, and changes
            neither the split nor its dicts.
    Returns:
        `check`, so that this can be a decorator. Registering it again changes nothing.
    """
    if check not in _CHECKS:
        _CHECKS.append(check)
    return check


def check_splits(
    splits: Mapping[str, DatasetSplit],
    *,
    model: InputSize | None = None,
    progress: bool = False,
    cached: bool = False,
) -> Report:
    """Check data sets, the first of which is the training data.

    Args:
        splits: by the name that the report gives them.
        model: what the model makes of the sizes of objects, if that is to be checked.
        progress: show progress bars on stderr.
        cached: do not read images again that were read on this machine and did not change since.
    """
    infos = _read_image_infos(splits.values(), cached, "images" if progress else "")
    unread = {issue.where for split in splits.values() for issue in split.issues}
    contexts = [
        CheckContext(name, split, infos, unread, model, progress) for name, split in splits.items()
    ]
    with collection_paused():
        for context in contexts:
            for check in _CHECKS:
                check(context)
        check_duplicates(contexts)
        check_class_lists(contexts)
    return Report(
        {context.name: _summarise(context) for context in contexts},
        [issue for context in contexts for issue in context.issues],
    )


def _read_image_infos(
    splits: Iterable[DatasetSplit], cached: bool, progress: str
) -> dict[str, ImageInfo]:
    """Read the images of each split in one call, as the cleaning does, which shares the cache."""
    found: dict[str, ImageInfo] = {}
    for split in splits:
        listed = [image["file_name"] for image in split.images]
        unread = [str(issue.image) for issue in split.issues if issue.image is not None]
        for files in (listed, unread):
            new = files if found.keys().isdisjoint(files) else [f for f in files if f not in found]
            found |= read_image_infos(new, fresh=not cached, progress=progress) if new else {}
    return found


def _summarise(context: CheckContext) -> dict[str, Any]:
    split, counts = context.split, context.class_counts.tolist()
    return {
        "name": context.name,
        "format": split.format,
        "path": str(split.path),
        "images": len(split.images),
        "objects": len(context.objects),
        "classes": dict(zip(split.classes, counts, strict=True)),
        "notes": split.notes,
    }
