"""YOLO: a text file of normalised labels for each image, and a `data.yaml` that names the splits.

Darknet's `obj.data` stands for the yaml.

A label is `class cx cy w h`, `class x1 y1 x2 y2 ...` (a polygon, or the four corners of an oriented
box where every label of the data set has exactly four) or, where `kpt_shape` is given, a box and
keypoints. Labels of `images/a.jpg` stand in `labels/a.txt`, or beside the image.
"""

import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from d2ext.config.plain_yaml import parse_yaml
from d2ext.data.formats.darknet import existing, read_darknet
from d2ext.data.formats.dataset_split import DatasetSplit
from d2ext.data.formats.image_files import (
    IMAGE_SUFFIXES,
    child,
    files_in,
    images_below,
    read_lines,
    split_folders,
    split_of,
)
from d2ext.data.formats.keypoint_names import mirror_pairs
from d2ext.data.formats.text_files import read_text
from d2ext.data.formats.values import as_numbers
from d2ext.data.formats.yolo_labels import MOST_CLASSES, keypoint_shape, read_labels
from d2ext.data.issues import Issue
from d2ext.errors import ConfigError, DataError

FORMAT = "YOLO"
_SPLITS = {"train": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}
_NAMES = ("classes.txt", "obj.names", "_darknet.labels", "labels.txt", "predefined_classes.txt")
_YAML = (".yaml", ".yml")


@dataclass(frozen=True)
class YoloSplit:
    """One split: a yaml file's entry, or a folder of images.

    Args:
        path: the yaml file, or the folder.
        split: its canonical name.
        entries: what the yaml says of the split; empty: `path` is the folder of the images.
        config: what the yaml says of all splits.
        images: the folder of images that the user named.
        others: the other splits of the data set.
    """

    path: Path
    split: str
    entries: tuple[str, ...] = ()
    config: dict[str, Any] = field(default_factory=dict, hash=False)
    images: Path | None = None
    others: tuple["YoloSplit", ...] = field(default=(), repr=False, compare=False)


def find(path: Path, images: Path | None) -> dict[str, YoloSplit]:
    """Find the splits of a YOLO data set at `path`; {} if it is something else."""
    found = _find(path, images)
    return {
        split: replace(part, others=tuple(p for p in found.values() if p is not part))
        for split, part in found.items()
    }


def _find(path: Path, images: Path | None) -> dict[str, YoloSplit]:
    """Find the splits of a YOLO data set at `path`; {} if it is something else."""
    if path.is_file():
        if path.suffix.lower() in _YAML:
            return _of_yaml(path)
        if path.suffix.lower() == ".data":
            return _splits(path, read_darknet(path))
        listed = path.suffix == ".txt" and split_of(path.stem) and _lists_images(path)
        return {"": YoloSplit(path.parent, split_of(path.stem), (str(path),))} if listed else {}
    if (file := _yaml_in(path)) is not None:
        return _of_yaml(file)
    for file in files_in(path, ".data"):
        if parts := _splits(file, read_darknet(file)):
            return parts
    if _has_labels(path):
        return {"": _of_folder(path, images)}
    found = {split: p for split, p in split_folders(path).items() if _has_labels(p)}
    if not found:  # images/train beside labels/train
        folders = split_folders(child(path, "images") or path)
        found = {split: p for split, p in folders.items() if _is_txt(label_folder(p))}
    return {split: _of_folder(folder, images, split) for split, folder in found.items()}


def load(part: YoloSplit) -> DatasetSplit:
    """Read the labels of a part.

    Raises:
        DataError: a path that the yaml names does not exist (with every place that was tried), or
            there are no images.
    """
    files = _images(part)
    encodings: Counter[str] = Counter()
    names = _class_names(part, encodings)
    dataset = DatasetSplit(
        format=FORMAT,
        path=part.path,
        split=part.split,
        task="boxes",
        classes=tuple(names or ()),
        images=[],
        encodings=encodings,
    )
    if part.path.suffix.lower() in _YAML:
        read_text(part.path, dataset.encodings)  # to say which encoding it has
    labels = [(file, label_file(file)) for file in files]
    read_labels(dataset, labels, part.config.get("kpt_shape"), _labels_of_others(part))
    count = _class_count(part.config)
    if names and count is not None and count != len(names):
        detail = f"nc is {count}, but names lists {len(names)} classes, which count"
        dataset.notes.append(detail)
        dataset.id_issues.append(Issue("class-count", str(part.path), detail))
    if dataset.task == "keypoints":
        dataset.metadata |= _points(part.config)
    return dataset


def _labels_of_others(part: YoloSplit) -> Iterator[Path]:
    """Yield the label files of the other splits, those that can be found."""
    for other in part.others:
        try:
            files = _images(other)
        except DataError:
            continue  # reading that split reports it
        yield from (labels for file in files if os.path.isfile(labels := label_file(file)))


def _class_count(config: dict[str, Any]) -> int | None:
    count = config.get("nc")
    if isinstance(count, str) and count.strip().isdecimal():
        return int(count)
    return count if isinstance(count, int) and not isinstance(count, bool) else None


def _points(config: dict[str, Any]) -> dict[str, Any]:
    """Names for the keypoints, and which of them change places in a mirrored image."""
    count, _ = keypoint_shape(config["kpt_shape"]) or (0, 0)
    flips = as_numbers(config.get("flip_idx") or ()) or ()
    names = _point_names(config.get("kpt_names"), count)
    pairs = [(names[n], names[int(m)]) for n, m in enumerate(flips) if n < m < count]
    return {"keypoint_names": names, "keypoint_flip_map": pairs or mirror_pairs(names)}


def _point_names(given: Any, count: int) -> list[str]:
    """Return the names of `kpt_names`, a list or one list per class; else numbered ones."""
    if isinstance(given, dict):
        given = next(iter(given.values()), None)
    if isinstance(given, list) and len({str(name) for name in given}) == count:
        return [str(name) for name in given]
    return [f"point_{n}" for n in range(count)]


def label_file(image: Path) -> Path:
    """Where the labels of an image stand: its last folder `images` becomes `labels`.

    Some tools write p1.jpg.txt for p1.jpg, which is no other image's.
    """
    folder = label_folder(image.parent)
    places = [folder / f"{image.name}.txt", folder / f"{image.stem}.txt"]
    places += [image.with_name(f"{image.name}.txt"), image.with_suffix(".txt")]
    return next(filter(os.path.exists, places), places[1])


def label_folder(images: Path) -> Path:
    """Return the label folder of an image folder; itself if no `images` is in its path."""
    parts = list(images.parts)
    places = [n for n, part in enumerate(parts) if part.lower() == "images"]
    if not places:
        return images
    parts[places[-1]] = "labels"
    return Path(*parts)


def _yaml_in(folder: Path) -> Path | None:
    """Find the file in `folder` that names classes and splits; `data.yaml` before all others."""
    files = [file for file in files_in(folder, *_YAML) if _of_yaml(file, strict=False)]
    for name in ("data.yaml", "data.yml", "dataset.yaml"):
        if (file := folder / name) in files:
            return file
    if len(files) > 1:
        raise DataError(f"{folder}: several data sets: {', '.join(map(str, files))}. Name one.")
    return files[0] if files else None


def _of_yaml(file: Path, strict: bool = True) -> dict[str, YoloSplit]:
    config = _read_yaml(file, strict)
    found = _splits(file, config)
    if strict and not found:
        raise DataError(
            f"{file}: names no train, val or test; a YOLO data set needs at least one of them, the "
            f"folder of its images. Found: {', '.join(map(str, config)) or 'nothing'}."
        )
    return found


def _splits(file: Path, config: dict[str, Any]) -> dict[str, YoloSplit]:
    found = {}
    for split, spellings in _SPLITS.items():
        entry = next((config[key] for key in spellings if config.get(key)), None)
        if entry is not None:
            entries = [entry] if isinstance(entry, str) else entry
            if not isinstance(entries, list) or not all(isinstance(e, str) for e in entries):
                raise DataError(f"{file}: {split} must be a path or a list of paths: {entry!r}.")
            found[split] = YoloSplit(file, split, tuple(entries), config)
    return found


def _read_yaml(file: Path, strict: bool) -> dict[str, Any]:
    try:
        text = read_text(file)
        config = parse_yaml(text, file)  # refuses what is nested or large beyond any use
        if isinstance(config, dict) and config.get("names") is not None:
            # As text: YAML 1.1 takes yes, no, on and off for flags, and 007 for a number.
            as_text = yaml.load(text, yaml.BaseLoader)
            config |= {key: as_text[key] for key in ("names", "kpt_names") if key in config}
    except (yaml.YAMLError, DataError, ConfigError) as error:
        if not strict:
            return {}
        raise DataError(f"{file}: cannot be read as plain YAML: {error}") from error
    if isinstance(config, dict):
        return config
    if strict:
        raise DataError(f"{file}: holds no mapping of train, val, names to values.")
    return {}


def _has_labels(folder: Path) -> bool:
    """Whether `folder` is one split: images/ and labels/ in it, or texts beside images."""
    images = child(folder, "images")
    if images is not None and not split_folders(images):
        return _is_txt(label_folder(images))
    return bool(files_in(folder, *IMAGE_SUFFIXES)) and _is_txt(label_folder(folder))


def _is_txt(folder: Path) -> bool:
    """Whether a folder holds YOLO's labels: the first line that is not blank is a label."""
    for file in [f for f in files_in(folder, ".txt") if f.name not in _NAMES][:20]:
        words = _first_words(file)
        if words:
            return len(words) >= 5 and all(_is_number(word) for word in words)
    return False


def _first_words(file: Path) -> list[str]:
    try:
        lines = read_text(file, head=4096).splitlines()
    except DataError:
        return []
    return next((line.split() for line in lines if line.strip()), [])


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _lists_images(file: Path) -> bool:
    words = _first_words(file)
    return len(words) == 1 and words[0].lower().endswith(IMAGE_SUFFIXES)


def _of_folder(folder: Path, images: Path | None, split: str = "") -> YoloSplit:
    return YoloSplit(folder, split or split_of(folder.name), images=images)


def _images(part: YoloSplit) -> list[Path]:
    folders = [_resolve(part, entry) for entry in part.entries]
    if not part.entries:
        folders = [part.images or child(part.path, "images") or part.path]
    found: dict[Path, None] = {}
    for place in folders:
        listed = _listed(place) if os.path.isfile(place) else images_below(place)
        found.update(dict.fromkeys(listed))
    if not found:
        raise DataError(f"{', '.join(map(str, folders))}: no images there, named for {part.path}.")
    return list(found)


def _listed(file: Path) -> Iterator[Path]:
    """Return the images that a text file lists."""
    return (existing(file.parent, line) for _, line in read_lines(file))


def _resolve(part: YoloSplit, entry: str) -> Path:
    tried = list(dict.fromkeys(_places(part, entry)))
    for place in tried:
        if os.path.exists(place):
            return place
    raise DataError(
        f"{part.path}: {part.split}: {entry} does not exist. Tried: {', '.join(map(str, tried))}. "
        'Correct it, or "path", in the yaml file.'
    )


def _places(part: YoloSplit, entry: str) -> Iterator[Path]:
    """From the yaml's folder, then by its `path`, then as exports that say ../train/images mean."""
    here = part.path.parent if part.path.is_file() else part.path
    entry = entry.replace("\\", "/")
    yield here / entry
    base = part.config.get("path")
    if isinstance(base, str):
        yield here / Path(base).expanduser() / entry
        yield Path(base).expanduser() / entry
    stripped = entry
    while stripped.startswith("../"):
        stripped = stripped.removeprefix("../")
        yield here / stripped
    parts = Path(entry).parts
    if Path(entry).is_absolute():  # of the machine that wrote the file
        yield from (here.joinpath(*parts[-n:]) for n in (3, 2, 1) if n < len(parts))


def _class_names(part: YoloSplit, encodings: Counter[str]) -> list[str] | None:
    names, count = part.config.get("names"), _class_count(part.config)
    if isinstance(names, str):
        names = _names_in_text(part, names, count, encodings)
    if isinstance(names, list) and names and all(isinstance(name, dict) for name in names):
        names = {key: name for entry in names for key, name in entry.items()}
    if isinstance(names, dict):
        return _by_index(part, names)
    if isinstance(names, list):
        return [str(name).strip() for name in names]
    if count is not None and count <= MOST_CLASSES:
        return [f"class_{n}" for n in range(count)]
    return None if part.config else _names_beside(part, encodings)


def _names_in_text(part: YoloSplit, text: str, count: int | None, encodings: Counter[str]) -> Any:
    """Parse names that are one text: a file of names, a list in quotes, or names with commas."""
    here = part.path.parent if part.path.is_file() else part.path
    if text.strip() and os.path.isfile(here / text.strip()):
        return [line for _, line in read_lines(here / text.strip(), encodings)]
    if text.strip().startswith(("[", "{")):
        try:
            parse_yaml(text, part.path)
            return yaml.load(text, yaml.BaseLoader)
        except (yaml.YAMLError, ConfigError):
            raise DataError(
                f"{part.path}: names must be a list or a mapping of indices: {text!r}."
            ) from None
    names = [name.strip() for name in re.split(r"[,;\n]", text) if name.strip()]
    words = text.split()
    return words if len(names) == 1 and count == len(words) else names


def _by_index(part: YoloSplit, names: dict[Any, Any]) -> list[str]:
    try:
        by_index = {int(key): str(name) for key, name in names.items()}
    except (TypeError, ValueError):
        raise DataError(f"{part.path}: names must be by index, 0: cat: found {names!r}.") from None
    if max(by_index, default=0) >= MOST_CLASSES:
        raise DataError(f"{part.path}: names has the index {max(by_index)}; count them from 0.")
    return [by_index.get(n, f"class_{n}") for n in range(max(by_index, default=-1) + 1)]


def _names_beside(part: YoloSplit, encodings: Counter[str]) -> list[str] | None:
    """Class names from a text or yaml file in the folder or in one of the two above it."""
    for folder in (part.path, *part.path.parents[:2]):
        for name in _NAMES:
            if (folder / name).is_file():
                return [line for _, line in read_lines(folder / name, encodings)]
        for file in files_in(folder, *_YAML):
            if "names" in (config := _read_yaml(file, strict=False)):
                return _class_names(YoloSplit(file, part.split, config=config), encodings)
    return None
