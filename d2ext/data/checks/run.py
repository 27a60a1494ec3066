"""All checks of data sets that belong together."""

from collections.abc import Mapping
from pathlib import Path

from d2ext.data.checks.boxes import check_boxes
from d2ext.data.checks.classes import check_class_lists, check_classes, class_counts
from d2ext.data.checks.colours import check_colours
from d2ext.data.checks.coverage import check_coverage
from d2ext.data.checks.duplicates import check_duplicates
from d2ext.data.checks.images import check_images
from d2ext.data.checks.keypoints import check_keypoints
from d2ext.data.checks.labels import (
    check_labels,
    check_segment_maps,
)
from d2ext.data.checks.leftovers import check_leftovers
from d2ext.data.checks.masks import check_masks
from d2ext.data.checks.raw_coco import check_coco_files
from d2ext.data.checks.reading import add_reading_faults
from d2ext.data.checks.report import Report
from d2ext.data.checks.sizes import InputSize, check_sizes
from d2ext.data.checks.subject import Subject
from d2ext.data.checks.twins import check_twins
from d2ext.data.formats import DatasetSplit
from d2ext.data.image_info import read_image_info, read_label_info
from d2ext.data.image_info_cache import read_image_infos
from d2ext.data.parallel import map_files


def check_sources(
    sources: Mapping[str, DatasetSplit],
    *,
    model: InputSize | None = None,
    progress: bool = False,
    cached: bool = False,
) -> Report:
    """Check data sets, the first of which is learned from.

    Args:
        sources: by the name that the report gives them.
        model: what the model makes of objects' sizes, if that is to be checked.
        progress: whether to show a progress bar on stderr.
        cached: whether images that this machine has checked and that did not change since are
            taken for what they were.
    """
    subjects = [Subject(name, source) for name, source in sources.items()]
    bar = "images" if progress else ""
    probes = read_image_infos(_images(subjects), fresh=not cached, progress=bar)
    for subject in subjects:
        add_reading_faults(subject, probes)
        check_images(subject, probes)
        check_leftovers(subject, set(probes))
        _check_annotations(subject, progress)
        if model is not None:
            check_sizes(subject, model)
    check_duplicates(subjects, probes)
    check_class_lists(subjects)
    return Report(
        {subject.name: _about(subject) for subject in subjects},
        [fault for subject in subjects for fault in subject.faults],
    )


def _check_annotations(subject: Subject, progress: bool) -> None:
    check_coco_files(subject)
    check_classes(subject)
    check_coverage(subject)
    check_boxes(subject)
    check_twins(subject)
    check_masks(subject)
    check_keypoints(subject)
    if subject.source.task == "panoptic":
        maps = [Path(item["pan_seg_file_name"]) for item in subject.images]
        check_segment_maps(
            subject, map_files(read_image_info, maps, progress="maps" if progress else "")
        )
    if subject.source.task == "semantic":
        files = [Path(item["sem_seg_file_name"]) for item in subject.images]
        bar = "label images" if progress else ""
        check_labels(subject, map_files(read_label_info, files, progress=bar))
        check_colours(subject)


def _images(subjects: list[Subject]) -> list[Path]:
    listed = [Path(item["file_name"]) for s in subjects for item in s.images]
    broken = [Path(fault.image) for s in subjects for fault in s.source.faults if fault.image]
    return listed + broken


def _about(subject: Subject) -> dict:
    counts = class_counts(subject).tolist()
    return {
        "name": subject.name,
        "format": subject.source.format,
        "path": str(subject.source.path),
        "images": len(subject.images),
        "objects": len(subject.objects),
        "classes": dict(zip(subject.source.classes, counts, strict=True)),
        "notes": subject.source.notes,
    }
