"""Where the splits of a YOLO data set are: a yaml file, Darknet's obj.data, a list, or folders."""

import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from d2ext.config.plain_yaml import parse_yaml
from d2ext.data.formats.darknet import read_darknet
from d2ext.data.formats.image_files import (
    IMAGE_SUFFIXES,
    child,
    files_in,
    split_folders,
    split_of,
)
from d2ext.data.formats.near_names import unicode_forms
from d2ext.data.formats.text_files import read_text
from d2ext.data.formats.values import number_words
from d2ext.errors import ConfigError, DataError

_SPLITS = {"train": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}
NAME_FILES = ("classes.txt", "obj.names", "_darknet.labels", "labels.txt", "predefined_classes.txt")
_MOST = 1 << 20  # characters of a yaml file
YAML_SUFFIXES = (".yaml", ".yml")


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
    found = _find_alone(path, images)
    return {
        split: replace(part, others=tuple(p for p in found.values() if p is not part))
        for split, part in found.items()
    }


def _find_alone(path: Path, images: Path | None) -> dict[str, YoloSplit]:
    """Find the splits as `find` does, each without the others."""
    if path.is_file():
        if path.suffix.lower() in YAML_SUFFIXES:
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
        found = {split: p for split, p in folders.items() if _has_label_texts(label_folder(p))}
    return {split: _of_folder(folder, images, split) for split, folder in found.items()}


def label_file(image: Path) -> Path:
    """Return the label file of an image: its last folder `images` becomes `labels`.

    Some tools write p1.jpg.txt for p1.jpg, which is no other image's.
    """
    folder = label_folder(image.parent)
    places = [folder / f"{image.name}.txt", folder / f"{image.stem}.txt"]
    places += [image.with_name(f"{image.name}.txt"), image.with_suffix(".txt")]
    places += [folder / f"{image.stem}.TXT"]
    places += [folder / f"{name}.txt" for name in unicode_forms(image.stem)]
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
    files = [file for file in files_in(folder, *YAML_SUFFIXES) if _of_yaml(file, strict=False)]
    for name in ("data.yaml", "data.yml", "dataset.yaml"):
        if (file := folder / name) in files:
            return file
    if len(files) > 1:
        raise DataError(f"{folder}: several data sets: {', '.join(map(str, files))}. Name one.")
    return files[0] if files else None


def _of_yaml(file: Path, strict: bool = True) -> dict[str, YoloSplit]:
    config = read_yaml(file, strict)
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


def read_yaml(file: Path, strict: bool) -> dict[str, Any]:
    try:
        text = read_text(file, head=_MOST + 1)
        if len(text) > _MOST:  # parsing takes seconds per megabyte
            raise DataError(f"{file}: larger than {_MOST >> 20} MiB.")
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
    """Return true if `folder` is one split: images/ and labels/, or texts next to images."""
    images = child(folder, "images")
    if images is not None and not split_folders(images):
        return _has_label_texts(label_folder(images))
    return bool(files_in(folder, *IMAGE_SUFFIXES)) and _has_label_texts(label_folder(folder))


def _has_label_texts(folder: Path) -> bool:
    """Return true if a folder holds label files: the first line that is not blank is a label."""
    for file in [f for f in files_in(folder, ".txt") if f.name not in NAME_FILES][:20]:
        words = number_words(" ".join(_first_words(file)))
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
