"""Pascal VOC: one XML file an image, with `ImageSets/Main` for the splits, or a folder of files.

Two pixel conventions are in use, and nothing in a file says which one it has. VOC counts pixels
from 1 and names the first and the last of a box: its left edge is xmin - 1, its right edge xmax.
labelImg, CVAT and most exports name the edges: xmin and xmax. The files of one folder are taken to
count from 1 if no corner is below 1 and every number is whole; `notes` says what was chosen.
`robndbox` (centre, size, angle in radians, clockwise as seen) is in edge coordinates always.
"""

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from xml.etree import ElementTree
from xml.parsers import expat

from d2ext.data.formats.dataset_split import DatasetSplit, Item, number_classes
from d2ext.data.formats.image_files import (
    ImageIndex,
    child,
    files_in,
    folders_in,
    image_size,
    read_lines,
    split_folders,
    split_of,
    stem,
)
from d2ext.data.formats.outlines import give_angles
from d2ext.data.formats.text_files import decode_file, head_of
from d2ext.data.formats.values import is_true
from d2ext.data.issues import Issue, reading_issue
from d2ext.errors import DataError
from d2ext.files import read_regular
from detectron2.structures import BoxMode

FORMAT = "Pascal VOC"
FROM_ONE = "pixels count from 1"  # in <source><annotation>, settles the convention
_BELOW_ONE = re.compile(rb"<[xy]min>\s*(?:-|0*(?:\.\d*)?\s*<)")
_FRACTION = re.compile(rb"<[xy]m(?:in|ax)>\s*\d*\.\d*[1-9]")
_DECLARED = re.compile(rb"""\s*<\?xml[^>]*encoding=["']([\w.-]+)["']""")
_CORNERS = ("xmin", "ymin", "xmax", "ymax")
_ROTATED = ("cx", "cy", "w", "h", "angle")


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


def load(part: VocSplit) -> DatasetSplit:
    """Read the XML files of a part. Entities are refused, so no file can be made to expand.

    Raises:
        DataError: an image set names files of which none exists.
    """
    from_one = counts_from_one(part.siblings)
    issues: list[Issue] = []
    encodings: Counter[str] = Counter()
    index = ImageIndex(part.image_folders)
    parsed = []
    for file in _files(part, issues):
        try:
            root = parse_xml(file, encodings)
        except (expat.ExpatError, DataError, ValueError, OSError) as error:
            issues.append(
                reading_issue("file-unreadable", "broken XML", str(file), found=str(error))
            )
            continue
        image = _image(file, root, index, issues)
        if image is not None:
            parsed.append(image)
            image["annotations"] = list(_objects(file, root, image, from_one, issues))
    for image_id, image in enumerate(parsed, start=1):
        image["image_id"] = image_id
    rotated = any(map(_has_angles, part.siblings))
    if rotated:
        give_angles([item for image in parsed for item in image["annotations"]])
    return DatasetSplit(
        format=FORMAT,
        path=part.path,
        split=part.split,
        task="rotated" if rotated else "boxes",
        classes=number_classes(parsed),
        images=parsed,
        issues=issues,
        notes=[] if rotated else [_note(from_one)],
        encodings=encodings,
    )


@lru_cache(maxsize=8)
def counts_from_one(folders: tuple[Path, ...]) -> bool:
    """Whether the XML files of all folders may count pixels from 1, as VOC does."""
    for folder in folders:
        for file in files_in(folder, ".xml"):
            content = read_regular(file)
            if b"\0" in content[:64]:
                content = head_of(file, -1).encode()  # UTF-16
            if FROM_ONE.encode() in content:
                return True
            if _BELOW_ONE.search(content) or _FRACTION.search(content):
                return False
    return True


def _has_angles(folder: Path) -> bool:
    """Return true if any XML file has a box with an angle: one decision for all splits."""
    return any(b"<robndbox" in read_regular(file) for file in files_in(folder, ".xml"))


def parse_xml(file: Path, encodings: Counter[str] | None = None) -> ElementTree.Element:
    """Parse an XML file and return its root.

    Args:
        encodings: see `d2ext.data.formats.text_files.read_text`.
    Raises:
        expat.ExpatError: broken XML.
        DataError: it is no text.
        ValueError: it declares entities, which annotations never need.
    """
    builder = ElementTree.TreeBuilder()
    content = read_regular(file)
    if not content.isascii() or b"\0" in content:
        declared = _DECLARED.match(content)
        name = declared.group(1).decode("ascii") if declared else ""
        content = decode_file(file, content, encodings, declared=name).encode()
    parser = expat.ParserCreate("utf-8")  # whatever the file declares
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    parser.EntityDeclHandler = _refuse_entity
    parser.buffer_text = True
    parser.Parse(content, True)
    return builder.close()


def _refuse_entity(*_: object) -> None:
    raise ValueError("declares entities, which annotations don't need")


def _note(from_one: bool) -> str:
    if from_one:
        return "pixels count from 1, as no corner is below 1: left edge xmin - 1, right edge xmax"
    return "corners are edges: some are below 1 or no whole numbers, so pixels don't count from 1"


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
    # The other splits, too, tell which pixel convention the data set has.
    siblings = tuple(p for p in folders_in(root) if _has_xml(p)) or (folder,)
    return VocSplit(folder, split, listing, _image_folders(folder, images), siblings)


def _image_folders(annotations: Path, images: Path | None) -> tuple[Path, ...]:
    """Where images of XML files are looked for; those of the same split stand first."""
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


def _files(part: VocSplit, issues: list[Issue]) -> Iterable[Path]:
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
    found = [file for _, file in listed if file in there]
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


def _image(
    file: Path, root: ElementTree.Element, index: ImageIndex, issues: list[Issue]
) -> Item | None:
    name = (root.findtext("filename") or "").strip()
    path = index.find(file.stem) or index.find(name)
    named = index.find(name)
    if named is not None and stem(named.name) == file.stem:
        path = named  # of a.jpg and a.png the one that the file names
    size = tuple(_number(root.findtext(f"size/{key}")) for key in ("width", "height"))
    if not all(n is not None and 1 <= n < math.inf for n in size):
        size = (image_size(path) if path else None) or (None, None)
    if size[0] is None or size[1] is None:
        issues.append(reading_issue("image-unreadable", "image of unknown size", str(file), name))
        return None
    return {
        "file_name": str(path or index.folders[0] / (name or file.stem)),
        "width": int(size[0]),
        "height": int(size[1]),
        "annotated_in": str(file),
    }


def _objects(
    file: Path,
    root: ElementTree.Element,
    image: Item,
    from_one: bool,
    issues: list[Issue],
) -> Iterator[Item]:
    for number, item in enumerate(root.iter("object"), start=1):
        name = (item.findtext("name") or "").strip()
        box, mode = _box(item, from_one)
        if box is None or not name:
            what = "object without a box" if name else "object without a name"
            where = f"{file}:object {number}"
            issues.append(reading_issue("record-broken", what, where, image["file_name"], name))
            continue
        found = {"bbox": box, "bbox_mode": mode, "category": name, "iscrowd": 0}
        if is_true(item.findtext("difficult")):
            found["difficult"] = 1
        yield found | {"record": f"object {number}"}


def _box(item: ElementTree.Element, from_one: bool) -> tuple[list[float] | None, BoxMode]:
    rotated = item.find("robndbox")
    if rotated is not None:
        numbers = [_number(rotated.findtext(key)) for key in _ROTATED]
        *box, angle = [math.nan if n is None else n for n in numbers]
        whole = None if None in numbers else [*box, _degrees(angle)]
        return whole, BoxMode.XYWHA_ABS
    corners = item.find("bndbox")
    if corners is None:
        return None, BoxMode.XYWH_ABS
    found = [_number(corners.findtext(key)) for key in _CORNERS]
    x0, y0, x1, y1 = (math.nan if n is None else n for n in found)
    if from_one:
        x0, y0 = x0 - 1, y0 - 1
    return (None if None in found else [x0, y0, x1 - x0, y1 - y0]), BoxMode.XYWH_ABS


def _degrees(clockwise: float) -> float:
    """Radians clockwise to degrees counter-clockwise, from -180 on and below 180."""
    return (180 - math.degrees(clockwise)) % 360 - 180


def _number(text: str | None) -> float | None:
    try:
        return float(text) if text is not None else None
    except ValueError:
        return None
