"""Which files a data set may hand on: images in its own folders.

A file of annotations may name any file of the machine, by "../", an absolute path or a link.
Reading such an image harms nobody; a copy or link of it in an output that is shared does.
"""

import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from d2ext.data.formats.dataset_split import DatasetSplit
from d2ext.data.formats.image_files import image_size, split_of
from d2ext.errors import DataError
from d2ext.text import first_few

_IMAGE_FOLDERS = ("images", "imgs", "img", "jpegimages", "data", "leftimg8bit")
_ANNOTATION_FOLDERS = ("annotations", "annotation", "labels", "label", "labeltxt", "imagesets")
_FILES = ("file_name", "sem_seg_file_name", "pan_seg_file_name")


def refuse_outside(splits: Iterable[DatasetSplit], named: Sequence[Path | None]) -> None:
    """Refuse data sets with files outside their folders, links followed.

    Args:
        named: files and folders that the user named: of annotations and of images.
    Raises:
        DataError: names the files, the folders and the flag that allows them.
    """
    splits = list(splits)
    roots = sorted({*_roots(place for place in named if place), *_roots(s.path for s in splits)})
    files = {i[key] for s in splits for i in s.images for key in _FILES if i.get(key)}
    inside = {folder: _is_below(folder, roots) for folder in map(os.path.dirname, files)}
    outside = [
        file
        for file in sorted(files)
        # A folder is resolved once, a file only where it is a link.
        if not (_is_below(file, roots) if os.path.islink(file) else inside[os.path.dirname(file)])
    ]
    if outside:
        raise DataError(
            f"{len(outside)} files are outside the data set's folders "
            f"({', '.join(map(str, roots))}): {first_few(outside)}. Give --allow-outside if they "
            "are meant to be in the output."
        )


def is_image(path: str | Path) -> bool:
    """Return true for a regular file that Pillow can open."""
    return os.path.isfile(path) and image_size(path) is not None


def copy_image_file(source: Path, target: Path) -> None:
    """Copy the bytes of an image file.

    Raises:
        DataError: Pillow cannot open it.
    """
    if not is_image(source):
        raise DataError(f"{source}: is no image, so it is not copied.")
    shutil.copyfile(source, target)


def _roots(places: Iterable[Path]) -> Iterable[str]:
    """Yield the folders that belong to a data set at each place, resolved."""
    for place in places:
        folder = place.resolve() if place.is_dir() else place.resolve().parent
        yield str(folder)
        if folder.name.lower() in _ANNOTATION_FOLDERS or split_of(folder.name):
            folder = folder.parent
            yield str(folder)
        # Images beside the folder of annotations, where readers look for them, too.
        for name in _children(folder.parent):
            if name.lower() in _IMAGE_FOLDERS:
                yield str(folder.parent / name)


def _children(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _is_below(path: str, roots: Sequence[str]) -> bool:
    real = os.path.realpath(path)
    return any(real == root or real.startswith(root.rstrip(os.sep) + os.sep) for root in roots)
