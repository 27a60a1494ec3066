"""Files beside those that a data set uses: images that are not listed, labels without an image."""

from collections.abc import Iterable
from pathlib import Path

from d2ext.data.checks.images import KNOWN_SUFFIXES
from d2ext.data.checks.subject import Subject

_LABELS = (".txt", ".xml")  # formats with a file for each image


def check_leftovers(subject: Subject, used: set[Path]) -> None:
    """Look into the folders of the images and of the label files.

    Args:
        used: every image that any of the data sets lists.
    """
    folders = dict.fromkeys(Path(item["file_name"]).parent for item in subject.images)
    there = [file for folder in folders for file in _files(folder, KNOWN_SUFFIXES)]
    for file in there:
        if file not in used:
            subject.add("image-unused", str(file), "not listed", str(file))
    known = {fault.where for fault in subject.source.faults}
    stems = {file.stem for file in (*there, *used)}
    for file in _label_files(subject):
        if file.stem not in stems and str(file) not in known:
            subject.add("annotation-orphan", str(file), f"no image is named {file.stem}")


def _label_files(subject: Subject) -> list[Path]:
    used = [Path(item["annotated_in"]) for item in subject.images if item["annotated_in"]]
    folders = dict.fromkeys((p.parent, p.suffix) for p in used if p.suffix in _LABELS)
    return [
        file
        for folder, suffix in folders
        for file in _files(folder, (suffix,))
        if "class" not in file.stem
    ]


def _files(folder: Path, suffixes: Iterable[str]) -> list[Path]:
    if not folder.is_dir():
        return []
    files = (file for file in folder.iterdir() if file.name[0] != ".")
    return sorted(file for file in files if file.suffix.lower() in suffixes)
