"""Where the splits of a VOC data set are: XML files, lists of them, and folders of images."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from d2ext.data.formats.image_files import (
    child,
    files_in,
    folders_in,
    read_lines,
    split_folders,
    split_of,
    stem,
)
from d2ext.data.formats.text_files import head_of
from d2ext.data.issues import Issue, reading_issue
from d2ext.errors import DataError


@dataclass(frozen=True)
class VocSplit:
    """XML files, the list of those that count (None: all), and where images may be."""

    path: Path
    split: str
    listing: Path | None
    image_folders: tuple[Path, ...]
    siblings: tuple[Path, ...]  # all folders of the data set: one convention holds for all


def find(path: Path, images: Path | None) -> dict[str, VocSplit]:
    """Find the splits of a VOC data set at `path`; {} if it is something else."""
    if path.is_file() and path.suffix == ".txt" and path.parent.name == "Main":
        folder = path.parent.parent.parent
        return {"": _whole(folder / "Annotations", images, folder, path)}
    if path.name == "Annotations" and (path.parent / "ImageSets").is_dir():
        return _listed(path.parent, path, images)
    annotations = child(path, "Annotations", "Annotation", "xml", "xmls")
    if annotations is not None and _has_xml(annotations):
        return _listed(path, annotations, images)
    if _has_xml(path):
        return {"": _whole(path, images, path.parent)}
    for base in filter(None, (path, annotations)):
        folders = {split: _xml_folder(p) for split, p in split_folders(base).items()}
        found = {split: folder for split, folder in folders.items() if folder is not None}
        if found:
            siblings = tuple(found.values())
            return {
                split: VocSplit(folder, split, None, _image_folders(folder, images), siblings)
                for split, folder in found.items()
            }
    years = [p for p in folders_in(child(path, "VOCdevkit") or path) if _has_xml(p / "Annotations")]
    if len(years) > 1:
        raise DataError(f"{path}: several data sets: {', '.join(map(str, years))}. Name one.")
    return find(years[0], images) if years else {}


def _has_xml(folder: Path) -> bool:
    files = files_in(folder, ".xml")
    # CVAT's XML of all images is another format.
    return bool(files) and "<annotations" not in head_of(files[0], 4096)


def _xml_folder(folder: Path) -> Path | None:
    inner = child(folder, "Annotations", "Annotation", "xml", "xmls", "labels")
    return next((p for p in (folder, inner) if p is not None and _has_xml(p)), None)


def _listed(root: Path, annotations: Path, images: Path | None) -> dict[str, VocSplit]:
    """Return the splits of `ImageSets/Main`, without lists of single classes (`cat_train.txt`)."""
    lists = files_in(root / "ImageSets" / "Main", ".txt") or files_in(root / "ImageSets", ".txt")
    found = {file.stem.lower(): file for file in lists if split_of(file.stem) == file.stem.lower()}
    if not found:
        found = {split_of(file.stem): file for file in lists if split_of(file.stem)}
    if not found:
        return {"": _whole(annotations, images, root)}
    return {
        split: VocSplit(
            annotations, split, found[split], _image_folders(annotations, images), (annotations,)
        )
        for split in ("train", "val", "test")
        if split in found
    }


def _whole(folder: Path, images: Path | None, root: Path, listing: Path | None = None) -> VocSplit:
    split = split_of(listing.stem if listing else folder.name)
    # The other splits, too, show which pixel convention the data set has.
    siblings = tuple(p for p in folders_in(root) if _has_xml(p)) or (folder,)
    return VocSplit(folder, split, listing, _image_folders(folder, images), siblings)


def _image_folders(annotations: Path, images: Path | None) -> tuple[Path, ...]:
    """Return where images of XML files are looked for; those of the same split come first."""
    if images is not None:
        same = [p for p in folders_in(images) if p.name == annotations.name]
        return (*same, images)
    return tuple(_places(annotations))


def _places(annotations: Path) -> Iterator[Path]:
    yield annotations
    for base in (annotations, annotations.parent, annotations.parent.parent):
        for name in ("JPEGImages", "images", "image", "imgs"):
            if (folder := child(base, name)) is not None:
                if (same := child(folder, annotations.name)) is not None:
                    yield same
                yield folder
    yield annotations.parent


def annotation_files(part: VocSplit, issues: list[Issue]) -> Iterable[Path]:
    """Return the XML files of a split, each once; add an issue for each listed one that is missing.

    Raises:
        DataError: none of the listed files exists.
    """
    if part.listing is None:
        return files_in(part.path, ".xml")
    there = set(files_in(part.path, ".xml"))
    listed = [(n, _listed_file(part.path, line, there)) for n, line in read_lines(part.listing)]
    for number, file in listed:
        if file not in there:
            issues.append(
                reading_issue(
                    "file-missing", "listed file without XML", f"{part.listing}:{number}", file.stem
                )
            )
    found = list(dict.fromkeys(file for _, file in listed if file in there))
    if listed and not found:
        raise DataError(
            f"{part.listing}: none of the {len(listed)} names in it has a file in {part.path}, "
            f"such as {listed[0][1]}."
        )
    return found


def _listed_file(folder: Path, line: str, there: set[Path]) -> Path:
    """Return the file that a line of an image set names.

    Names may hold spaces, and have the folder and the suffix of the image. Lists of single classes
    add a flag.
    """
    *name, flag = line.rsplit(maxsplit=1)
    names = [line, *name] if flag in ("-1", "0", "1") else [line]
    names += [each.replace("\\", "/").rpartition("/")[2] for each in names]
    files = [folder / f"{each}.xml" for n in names for each in (n, stem(n), n.removesuffix(".xml"))]
    return next((file for file in files if file in there), files[0])
