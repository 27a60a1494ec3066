"""Which folders hold images and their semantic masks, and which mask belongs to which image."""

import re
from dataclasses import dataclass
from pathlib import Path

from d2ext.data.formats.coco_layout import ade20k_panoptic
from d2ext.data.formats.image_files import (
    IMAGE_SUFFIXES,
    child,
    files_in,
    folders_in,
    images_below,
    split_folders,
    split_of,
    stem,
)
from d2ext.data.issues import Issue, reading_issue
from d2ext.errors import DataError

_IMAGES = ("images", "image", "imgs", "img", "JPEGImages", "input", "inputs", "leftImg8bit", "rgb")
_MASKS = (
    "labels",
    "label",
    "masks",
    "mask",
    "annotations",
    "annotation",
    "annots",
    "gt",
    "ground_truth",
    "SegmentationClass",
    "segmentation",
    "targets",
)
_ENDING = re.compile(
    r"[_.-](mask|masks|label|labels|gt|seg|segmentation|annotation|L|lab|gtFine_labelIds|"
    r"gtFine_labelTrainIds|labelIds|labelTrainIds|leftImg8bit|image|img|rgb)$",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class SemanticSplit:
    """One split: a folder of images, one of masks, and the masks of all splits."""

    path: Path
    split: str
    images: Path
    masks: Path
    mask_folders: tuple[Path, ...]

    @property
    def all_masks(self) -> list[Path]:
        """Those of every split: classes are the same in all."""
        return [mask for folder in self.mask_folders for mask in self.masks_in(folder)]

    @property
    def own_images(self) -> list[Path]:
        """The images, without masks that lie among them."""
        found = images_below(self.images)
        return [path for path in found if not _is_mask(path)] if self._mixed else found

    def masks_in(self, folder: Path) -> list[Path]:
        """Return the masks of a folder, without images that lie among them."""
        found = images_below(folder)
        return [path for path in found if _is_mask(path)] if self._mixed else found

    @property
    def _mixed(self) -> bool:
        return self.images == self.masks


def find(path: Path, images: Path | None) -> dict[str, SemanticSplit]:
    """Find the splits of semantic masks at `path`; {} if it is something else."""
    if path.is_file() or ade20k_panoptic(path):
        return {}
    pairs = _pairs(path, images)
    masks = tuple(mask for _, mask in pairs.values())
    return {split: SemanticSplit(path, split, *pair, masks) for split, pair in pairs.items()}


def mask_pairs(part: SemanticSplit, issues: list[Issue]) -> list[tuple[Path, Path]]:
    """Match images with their masks, by equal names; endings such as `_mask` don't count.

    Raises:
        DataError: no image has a mask.
    """
    masks = {_key(path, part.masks): path for path in part.masks_in(part.masks)}
    images = {_key(path, part.images): path for path in part.own_images}
    found = [(path, masks[key]) for key, path in images.items() if key in masks]
    if not found:
        raise DataError(
            f"{part.path}: no image in {part.images} has a mask of the same name in {part.masks}."
        )
    for key, path in images.items():
        if key not in masks:
            issues.append(
                reading_issue("labels-missing", "image without a mask", str(path), str(path))
            )
    for key, path in masks.items():
        if key not in images:
            issues.append(reading_issue("annotation-orphan", "mask without an image", str(path)))
    return found


def _pairs(path: Path, images: Path | None) -> dict[str, tuple[Path, Path]]:
    if images is not None:  # the masks were named, and the images
        return _matched(path, images)
    if path.name.lower() in map(str.lower, _MASKS):  # the masks alone were named
        beside = child(path.parent, *_IMAGES)
        return _matched(path, beside) if beside is not None else {}
    own, masks = child(path, *_IMAGES), _mask_folder(path)
    if own is not None and masks is not None:
        return _matched(masks, own)
    if _is_mixed(path):
        return {"": (path, path)}
    inside: dict[str, tuple[Path, Path]] = {}
    for split, folder in split_folders(path).items():
        own, masks = child(folder, *_IMAGES), _mask_folder(folder)
        beside = _beside(folder)
        if own is not None and masks is not None:
            inside[split] = (own, masks)
        elif beside is not None:
            inside[split] = (folder, beside)
        elif _is_mixed(folder):
            inside[split] = (folder, folder)
    return inside


def _matched(masks: Path, images: Path) -> dict[str, tuple[Path, Path]]:
    """Pair the splits that both folders have; the two themselves where they have none."""
    ours, theirs = split_folders(masks), split_folders(images)
    both = {split: (theirs[split], ours[split]) for split in ours if split in theirs}
    both = {split: pair for split, pair in both.items() if _holds_masks(pair[1])}
    if both:
        return both
    same = theirs.get(split_of(masks.name))
    return {"": (same or images, masks)} if _holds_masks(masks) else {}


def _mask_folder(folder: Path) -> Path | None:
    for name in _MASKS:
        found = child(folder, name)
        if found is not None and any(map(_holds_masks, (found, *split_folders(found).values()))):
            return found
    return None


def _beside(split: Path) -> Path | None:
    """Return train_labels, trainannot or train_masks next to train, as CamVid has it."""
    for folder in folders_in(split.parent):
        rest = folder.name.lower().removeprefix(split.name.lower()).strip("_-")
        if rest != folder.name.lower() and rest in ("annot", *_MASKS) and _holds_masks(folder):
            return folder
    return None


def _is_mixed(folder: Path) -> bool:
    """Return true if every image has its mask next to it: a.jpg and a_mask.png."""
    files = files_in(folder, *IMAGE_SUFFIXES)
    masks = {_key(path, folder) for path in files if _is_mask(path)}
    return bool(masks) and masks == {_key(path, folder) for path in files if not _is_mask(path)}


def _is_mask(path: Path) -> bool:
    return path.stem.lower().endswith("_mask")


def _holds_masks(folder: Path) -> bool:
    return bool(files_in(folder, *IMAGE_SUFFIXES)) and not files_in(folder, ".txt", ".xml")[1:]


def _key(path: Path, folder: Path) -> str:
    """Return the part of a file name that an image and its mask share."""
    name = stem(path.relative_to(folder).as_posix())
    while (shorter := _ENDING.sub("", name)) != name:
        name = shorter
    return name.lower()
