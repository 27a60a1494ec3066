"""Columns of a table of boxes: which one holds what, by the names that people give them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from d2ext.data.formats.image_files import IMAGE_SUFFIXES
from d2ext.data.formats.values import as_numbers
from d2ext.errors import DataError
from d2ext.text import first_few

UNNAMED = "object"  # the class where no column names one
CORNERS = ("xmin", "ymin", "xmax", "ymax")
_IMAGE = (
    *("image", "filename", "file_name", "file", "image_path", "path", "img", "image_name"),
    *("imagename", "image_file", "image_id", "imageid", "imageid_classid", "patientid", "id"),
)
_LABEL = (
    *("label", "class", "class_name", "name", "category", "labelname", "label_name", "classname"),
    *("category_name", "labels", "species", "class_id", "classid", "category_id", "target"),
)
_RUNS = ("encodedpixels", "encoded_pixels", "rle_mask", "rle")
_BOX = ("bbox", "box", "bounding_box", "boundingbox")
_X, _Y = ("x", "bbox_x", "x_min", "xmin", "left"), ("y", "bbox_y", "y_min", "ymin", "top")
_WIDTH = ("w", "bbox_w", "bbox_width", "box_width", "width")
_HEIGHT = ("h", "bbox_h", "bbox_height", "box_height", "height")
# What four columns, or one, say of a box; the first that is whole counts.
_SHAPES: dict[str, tuple[tuple[str, ...], ...]] = {
    "corners": (
        ("xmin", "x_min", "x1", "left", "bbox_xmin"),
        ("ymin", "y_min", "y1", "top", "bbox_ymin"),
        ("xmax", "x_max", "x2", "right", "bbox_xmax"),
        ("ymax", "y_max", "y2", "bottom", "bbox_ymax"),
    ),
    "centre": (
        ("cx", "x_center", "xcenter", "center_x", "x_centre"),
        ("cy", "y_center", "ycenter", "center_y", "y_centre"),
        _WIDTH,
        _HEIGHT,
    ),
    "size": (_X, _Y, _WIDTH, _HEIGHT),
    "list": (_BOX,),
    "runs": (_RUNS,),
}
_NOTES = {
    "centre": "boxes are read as centre, width and height, by the names of the columns",
    "size": "boxes are read as x, y, width and height, by the names of the columns",
    "list": "{} is read as x, y, width and height",
    "runs": "{} is read as run lengths, column by column from 1",
}
_EMPTY = ("", "nan", "none", "null")


@dataclass(frozen=True)
class Columns:
    """Where a table has what.

    Args:
        shape: what the box is written as: "corners", "centre", "size", "list" or "runs".
        box: positions of its columns.
        image: position of the image's name.
        label: position of the class; None: there is none.
        sizes: positions of the image's width and height; () where there are none.
        has_header: the first row names the columns.
        suffixed: an image's name ends with "_" and the class.
        note: what a user should know; "" for nothing.
        decimal_comma: cells may have one, since commas do not part them.
    """

    shape: str
    box: tuple[int, ...]
    image: int
    label: int | None
    sizes: tuple[int, ...] = ()
    has_header: bool = True
    suffixed: bool = False
    note: str = ""
    decimal_comma: bool = False

    def name(self, row: Sequence[str]) -> str:
        """Return the name of the image."""
        name = cell(row, self.image)
        return name.rpartition("_")[0] if self.suffixed else name

    def category(self, row: Sequence[str]) -> str:
        """Return the name of the class."""
        if self.suffixed:
            return cell(row, self.image).rpartition("_")[2]
        return cell(row, self.label) if self.label is not None else UNNAMED

    def is_empty(self, row: Sequence[str]) -> bool:
        """Return true for a row without a box: an image without objects."""
        return all(cell(row, place).lower() in _EMPTY for place in self.box)

    def numbers(self, row: Sequence[str]) -> list[float] | None:
        """Return x0, y0, x1, y1; None where the row has something else. Not for run lengths."""
        texts = [cell(row, place) for place in self.box]
        if self.shape == "list":
            texts = texts[0].strip("[]() ").replace(",", " ").split()
        if self.decimal_comma:
            texts = [text.replace(",", ".") for text in texts]
        found = as_numbers(texts)
        if found is None or len(found) != 4:
            return None
        x, y, width, height = found
        if self.shape == "corners":
            return found
        if self.shape == "centre":
            x, y = x - width / 2, y - height / 2
        return [x, y, x + width, y + height]


def find_columns(file: Path, rows: Sequence[Sequence[str]]) -> Columns:
    """Find the columns by the first row.

    Raises:
        DataError: it is no table of boxes.
    """
    first = next(iter(rows), [])
    head = [name.lower().replace(" ", "_").lstrip("#") for name in first]
    image = _place(head, _IMAGE)
    for shape, columns in _SHAPES.items():
        places = [_place(head, names) for names in columns]
        if image is not None and None not in places:
            box = tuple(place for place in places if place is not None)
            return _columns(head, shape, box, image)
    if len(first) >= 6 and first[0].lower().endswith(IMAGE_SUFFIXES):
        return Columns("corners", (1, 2, 3, 4), 0, 5, has_header=False)
    wanted = ", ".join(("image", *CORNERS, "label"))
    raise DataError(
        f"{file}: a table of boxes has the columns {wanted}; found {first_few(first, 8)}. Boxes "
        "may also be x, y, w, h, a bbox of these four, or EncodedPixels."
    )


def cell(row: Sequence[str], place: int) -> str:
    """Return a cell, "" where the row is shorter."""
    return row[place] if place < len(row) else ""


def _columns(head: list[str], shape: str, box: tuple[int, ...], image: int) -> Columns:
    label = _place(head, [name for name in _LABEL if _place(head, [name]) not in (image, *box)])
    widths = [name for name in ("image_width", "width") if _place(head, [name]) not in box]
    heights = [name for name in ("image_height", "height") if _place(head, [name]) not in box]
    sizes = [place for n in (widths, heights) if (place := _place(head, n)) is not None]
    suffixed = head[image] == "imageid_classid"
    notes = [_NOTES[shape].format(head[box[0]])] if shape in _NOTES else []
    if label is None and not suffixed:
        notes.append(f'no column names a class: all are "{UNNAMED}"')
    both = tuple(sizes) if len(sizes) == 2 else ()
    return Columns(shape, box, image, label, both, suffixed=suffixed, note="; ".join(notes))


def _place(head: Sequence[str], names: Sequence[str]) -> int | None:
    return next((head.index(name) for name in names if name in head), None)
