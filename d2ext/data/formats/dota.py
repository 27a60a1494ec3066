"""DOTA: one text file per image, with lines `x1 y1 x2 y2 x3 y3 x4 y4 class difficult` in pixels."""

from pathlib import Path

from d2ext.data.formats.corners import rotated_box
from d2ext.data.formats.dataset_split import DatasetSplit, Item, number_classes
from d2ext.data.formats.image_files import (
    ImageIndex,
    LabelFolder,
    child,
    files_in,
    folders_in,
    image_size,
    lines_or_issue,
    split_folders,
    split_of,
)
from d2ext.data.formats.text_files import read_text
from d2ext.data.formats.values import is_true, with_decimal_points
from d2ext.data.issues import Issue, reading_issue
from d2ext.errors import DataError
from detectron2.structures import BoxMode

FORMAT = "DOTA"
_FOLDERS = ("labelTxt", "labelTxt-v1.0", "labelTxt-v1.5", "labelTxt-v2.0", "annfiles", "labels")
_HEADERS = ("imagesource:", "gsd:")


def find(path: Path, images: Path | None) -> dict[str, LabelFolder]:
    """Find the splits of a DOTA data set at `path`; {} if it is something else."""
    for folder in filter(None, (path, child(path, *_FOLDERS))):
        if _is_dota(folder):
            return {"": _part(folder, split_of(folder.name) or split_of(path.name), images)}
        inside = {split: _labels_of(p) for split, p in split_folders(folder).items()}
        found = {split: labels for split, labels in inside.items() if labels is not None}
        if found:
            return {split: _part(labels, split, images) for split, labels in found.items()}
    return {}


def load(part: LabelFolder) -> DatasetSplit:
    """Read the label files of a part; every image needs one, even if it is empty.

    Raises:
        DataError: no image of a label file is found.
    """
    index = ImageIndex(part.image_folders)
    dataset = DatasetSplit(FORMAT, part.path, part.split, "rotated", (), [])
    found = [(file, index.find(file.stem)) for file in files_in(part.path, ".txt")]
    if all(image is None for _, image in found):
        raise DataError(
            f"{part.path}: the images of its label files, such as {found[0][0].stem}, are in none "
            f"of {', '.join(map(str, part.image_folders))}. Name their folder: {part.path}:IMAGES."
        )
    for file, path in found:
        size = image_size(path) if path else None
        if size is None:
            dataset.issues.append(_image_issue(file, path))
            continue
        _add_image(dataset, file, path, size)
    dataset.classes = number_classes(dataset.images)
    return dataset


def _image_issue(file: Path, image: Path | None) -> Issue:
    if image is None:
        return reading_issue("annotation-orphan", "labels without an image", str(file))
    return reading_issue("image-unreadable", "unreadable image", str(file), str(image))


def _add_image(dataset: DatasetSplit, file: Path, path: Path | None, size: tuple[int, int]) -> None:
    image = dataset.add_image(str(path), size, file)
    image["annotations"] = [
        item
        for number, line in lines_or_issue(file, dataset, str(path))
        for item in _object(dataset, image, number, line)
    ]


def _object(dataset: DatasetSplit, image: Item, number: int, line: str) -> list[Item]:
    if line.lower().startswith(_HEADERS):
        return []
    words = _words(line)
    try:
        corners = [float(word) for word in words[:8]]
        name, difficult = _name_and_flag(words[8:])
    except ValueError:
        corners, name, difficult = [], "", False
    if len(corners) < 8 or not name:
        where = f"{image['annotated_in']}:{number}"
        what = "line without eight numbers and a class"
        issue = reading_issue("record-broken", what, where, image["file_name"], line[:80])
        dataset.issues.append(issue)
        return []
    found = {
        "bbox": rotated_box(corners),
        "bbox_mode": BoxMode.XYWHA_ABS,
        "category": name,
        "iscrowd": 0,
        "record": number,
    }
    if difficult:
        found["difficult"] = 1
    return [found]


def _words(line: str) -> list[str]:
    """Split a line at white space and at commas, those of decimal numbers aside."""
    words = line.split()
    # Eight numbers and a class; "10,20 30,40" are the coordinates of two points.
    if len(words) > 8 and _numbers([word.replace(",", ".") for word in words[:8]]):
        return [*(with_decimal_points(words[:8]) or words[:8]), *words[8:]]
    return line.replace(",", " ").split()


def _name_and_flag(words: list[str]) -> tuple[str, bool]:
    """Split a class, whose name may hold spaces, from the flag `difficult` that may follow."""
    if len(words) > 1 and (_numbers(words[-1:]) or words[-1].lower() in ("true", "false")):
        return " ".join(words[:-1]), is_true(words[-1])
    return " ".join(words), False


def _labels_of(split: Path) -> Path | None:
    folders = (split, child(split, *_FOLDERS))
    return next((p for p in folders if p is not None and _is_dota(p)), None)


def _is_dota(folder: Path) -> bool:
    """Return true if the first files begin with a line of eight numbers and a class."""
    for file in files_in(folder, ".txt")[:20]:
        head = read_text(file, head=4096).splitlines()
        lines = (line for line in head if line.strip() and not line.lower().startswith(_HEADERS))
        words = _words(next(lines, ""))
        if words:
            return len(words) >= 9 and _numbers(words[:8]) and not _numbers(words[8:9])
    return False


def _numbers(words: list[str]) -> bool:
    try:
        return all(isinstance(float(word), float) for word in words)
    except ValueError:
        return False


def _part(labels: Path, split: str, images: Path | None) -> LabelFolder:
    if images is not None:
        same = [p for p in folders_in(images) if p.name == labels.name]
        return LabelFolder(labels, split, (*same, images))
    places = []
    for base in (labels, labels.parent, labels.parent.parent):
        if (folder := child(base, "images", "image", "imgs", "JPEGImages")) is not None:
            places += [p for p in folders_in(folder) if split_of(p.name) == split and split]
            places.append(folder)
    return LabelFolder(labels, split, (*places, labels, labels.parent))
