"""Image checks: readable, of the annotated size and a known format; unused files; few objects."""

import os
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from d2ext.data.checks.context import CheckContext
from d2ext.data.checks.pairs import Integers
from d2ext.data.image_info import ImageInfo
from d2ext.data.image_reading import is_deep

_COMMON = 10  # images of one size that make another size odd
_ODD = 2  # pixels that an odd size differs by
_SUFFIXES = {
    "AVIF": (".avif",),
    "BMP": (".bmp", ".dib"),
    "GIF": (".gif",),
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "JPEG2000": (".jp2", ".j2k", ".jpx"),
    "MPO": (".jpg", ".jpeg", ".mpo"),
    "PNG": (".png", ".apng"),
    "PPM": (".pbm", ".pgm", ".pnm", ".ppm"),
    "TGA": (".tga",),
    "TIFF": (".tif", ".tiff"),
    "WEBP": (".webp",),
}
_KNOWN_SUFFIXES = frozenset(suffix for suffixes in _SUFFIXES.values() for suffix in suffixes)
_LABEL_SUFFIXES = (".txt", ".xml")  # of formats with a label file per image

_USUAL = 0.9  # share of images with a class that makes its absence worth a note
_ENOUGH = 20  # images from which shares and medians mean anything
_MANY = 8  # median of objects per image that makes few objects worth a note
_TIMES_FEWER = 4  # than the median
_STEADY = 0.5  # share of the median that four fifths of the images reach


def check_images(context: CheckContext) -> None:
    """Compare each image file with its annotation and with the other images."""
    for number, item in enumerate(context.images):
        info = context.image_info[item["file_name"]]
        if info.problem:
            context.add_image(info.problem, number, info.detail)
        if info.size != (0, 0):  # a truncated file still has a header
            _check_size(context, number, info)
            _check_form(context, number, info)
    _check_listed_twice(context)
    _check_shared_labels(context)
    _check_odd_sizes(context)


def _check_size(context: CheckContext, number: int, info: ImageInfo) -> None:
    item = context.images[number]
    annotated = (item["width"], item["height"])
    upright = _size_text(info.upright_size)
    if info.upright_size == annotated:
        if info.orientation != 1:
            context.add_image("image-exif", number, f"EXIF orientation {info.orientation}")
    elif info.size == annotated:
        detail = f"EXIF orientation {info.orientation} makes it {upright}"
        context.add_image("image-turned", number, f"annotated as {_size_text(annotated)}, {detail}")
    else:
        detail = f"{upright} pixels, its annotation says {_size_text(annotated)}"
        context.add_image("image-size", number, detail)


def _check_form(context: CheckContext, number: int, info: ImageInfo) -> None:
    suffix = os.path.splitext(context.images[number]["file_name"])[1].lower()
    expected = _SUFFIXES.get(info.format)
    if expected and suffix in _KNOWN_SUFFIXES and suffix not in expected:
        context.add_image("image-suffix", number, f"{info.format} inside")
    if is_deep(info.mode):
        context.add_image("image-depth", number, f"Pillow's mode {info.mode}")
    if info.frames > 1:
        context.add_image("image-frames", number, f"{info.frames} pictures")
    if info.blank:
        context.add_image("image-blank", number, "one colour everywhere")


def _check_listed_twice(context: CheckContext) -> None:
    first: dict[str, int] = {}
    for number, item in enumerate(context.images):
        earlier = first.setdefault(item["file_name"], number)
        if earlier != number:
            ids = f"ids {context.images[earlier]['image_id']} and {item['image_id']}"
            context.add_image("image-listed-twice", number, ids)


def _check_shared_labels(context: CheckContext) -> None:
    """Report images that share a label file of one image: a.jpg and a.png have one a.txt."""
    first: dict[str, str] = {}
    for number, item in enumerate(context.images):
        labels, file = item["annotated_in"], item["file_name"]
        earlier = first.setdefault(labels, file) if labels.endswith(".txt") else file
        if earlier != file:
            name = os.path.basename(earlier)
            detail = f"{os.path.basename(labels)} is that of {name}, too"
            context.add_image("annotation-shared", number, detail)


def _check_odd_sizes(context: CheckContext) -> None:
    """Report sizes that differ by a pixel or two from one that is far more common."""
    by_size: dict[tuple[int, int], list[int]] = defaultdict(list)
    for number, item in enumerate(context.images):
        by_size[item["width"], item["height"]].append(number)
    for size, numbers in by_size.items():
        near = [other for other in _near_sizes(size) if other in by_size]
        common = max(near, key=lambda other: len(by_size[other]), default=size)
        count = len(by_size[common])
        if count >= 2 * len(numbers) and count >= _COMMON / 2:
            for number in numbers:
                detail = f"{_size_text(size)}, {count} others {_size_text(common)}"
                context.add_image("image-size-odd", number, detail)


def _near_sizes(size: tuple[int, int]) -> list[tuple[int, int]]:
    steps = range(-_ODD, _ODD + 1)
    return [(size[0] + x, size[1] + y) for x in steps for y in steps if x or y]


def _size_text(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"


def check_unused_files(context: CheckContext) -> None:
    """Report images in the same folders that are not listed, and label files without an image."""
    used = _normalised(context.image_info)
    folders = dict.fromkeys(os.path.dirname(item["file_name"]) for item in context.images)
    images = [file for folder in folders for file in _files_in(folder, _KNOWN_SUFFIXES)]
    twins = _files_by_stem(context)
    for file in images:
        if file not in used:
            twin = twins.get(os.path.splitext(file)[0])
            if twin:
                detail = f"{os.path.basename(twin[1])} is taken for that of {twin[0]}"
                context.add("annotation-shared", file, detail, file)
            else:
                context.add("image-unused", file, "not listed", file)
    labels = _label_files(context)
    stems = {_stem(file) for file in (*images, *used)} if labels else set()
    stems |= {os.path.basename(file) for file in (*images, *used)} if labels else set()
    known = {*context.files_with_issues}
    known |= _normalised(item["annotated_in"] for item in context.images)
    orphans = [file for file in labels if _stem(file) not in stems and file not in known]
    others = _stems_of_other_kinds(folders) if orphans else {}
    for file in orphans:
        detail = f"no image is named {_stem(file)}"
        if name := others.get(_stem(file)):
            detail = f"{name} is of a kind that is not read: save it as PNG"
        context.add("annotation-orphan", file, detail)


def _stems_of_other_kinds(folders: Iterable[str]) -> dict[str, str]:
    """Map the stems of files in image folders that are neither images nor labels to their names."""
    known = (*_KNOWN_SUFFIXES, *_LABEL_SUFFIXES)
    names = [entry.name for folder in folders for entry in os.scandir(folder or ".")]
    return {_stem(name): name for name in names if os.path.splitext(name)[1].lower() not in known}


def _files_by_stem(context: CheckContext) -> dict[str, tuple[str, str]]:
    """Map the path without suffix of each listed image to its name and its own label file.

    In formats with a label file per image, another image of that stem has no labels of its own.
    """
    owners = Counter(item["annotated_in"] for item in context.images)
    return {
        os.path.splitext(str(Path(item["file_name"])))[0]: (
            os.path.basename(item["file_name"]),
            item["annotated_in"],
        )
        for item in context.images
        if owners[item["annotated_in"]] == 1
        and _stem(item["annotated_in"]) == _stem(item["file_name"])
    }


def _label_files(context: CheckContext) -> list[str]:
    used = dict.fromkeys(item["annotated_in"] for item in context.images)
    places = dict.fromkeys((os.path.dirname(f), os.path.splitext(f)[1]) for f in used)
    return [
        file
        for folder, suffix in places
        if suffix in _LABEL_SUFFIXES
        for file in _files_in(folder, (suffix,))
        if "class" not in _stem(file)  # YOLO's classes.txt lies among the label files
    ]


def _files_in(folder: str, suffixes: Iterable[str]) -> list[str]:
    """Return the paths of the files in a folder, sorted by name; hidden ones are skipped."""
    try:
        names = sorted(os.listdir(folder or "."))
    except OSError:
        return []
    folder = str(Path(folder))
    return [
        os.path.join(folder, name)
        for name in names
        if name[0] != "." and os.path.splitext(name)[1].lower() in suffixes
    ]


def _normalised(files: Iterable[str]) -> set[str]:
    """Write the folders of files as `Path` does: splits may spell one folder in two ways."""
    parts = [(file, os.path.dirname(file)) for file in files]
    folders = {folder: str(Path(folder)) for folder in {folder for _, folder in parts}}
    return {
        file if folder == folders[folder] else os.path.join(folders[folder], os.path.basename(file))
        for file, folder in parts
    }


def _stem(file: str) -> str:
    return os.path.splitext(os.path.basename(file))[0]


def check_objects_per_image(context: CheckContext) -> None:
    """Report images without objects, and those that may not be labelled completely."""
    if context.split.annotates_pixels:
        return
    images = len(context.images)
    total = np.bincount(context.owners, minlength=images)
    counts = np.bincount(context.owners[~context.crowd], minlength=images)
    for image in np.flatnonzero(total == 0).tolist():
        context.add_image("image-without-objects", image, "no objects")
    for image in np.flatnonzero((counts == 0) & (total > 0)).tolist():
        context.add_image("image-crowd-only", image, f"{total[image]} crowd regions")
    if np.count_nonzero(counts) >= _ENOUGH:
        _check_few_objects(context, counts)
        _check_lacking_classes(context, counts)


def _check_few_objects(context: CheckContext, counts: Integers) -> None:
    filled = counts[counts > 0]
    median = float(np.median(filled))
    # Where counts vary by nature, a low one says nothing about missing labels.
    if median < _MANY or np.quantile(filled, 0.2) < _STEADY * median:
        return
    for image in np.flatnonzero((counts > 0) & (counts * _TIMES_FEWER <= median)).tolist():
        detail = f"{counts[image]} objects, {median:.0f} in the middle image"
        context.add_image("image-few-objects", image, detail)


def _check_lacking_classes(context: CheckContext, counts: Integers) -> None:
    """Report images without a class that at least 90 % of the images with objects have."""
    filled = counts > 0
    classes = len(context.split.classes)
    pairs = np.unique((context.owners * classes + context.labels)[~context.crowd])
    shares = np.bincount(pairs % classes, minlength=classes) / np.count_nonzero(filled)
    for number in np.flatnonzero((shares >= _USUAL) & (shares < 1)).tolist():
        lacking = filled.copy()
        lacking[pairs[pairs % classes == number] // classes] = False
        name = context.split.classes[number]
        for image in np.flatnonzero(lacking).tolist():
            detail = f"no {name}, which {shares[number]:.0%} of the images show"
            context.add_image("image-lacks-class", image, detail)
