"""`Issue`: one thing that is wrong with a data set, whoever found it.

The readers of formats, the cleaning and the check all speak of issues by the same codes, those of
the table in `d2ext.data.checks.kinds`.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Issue:
    """One issue at one place.

    Args:
        code: of its kind, such as "box-empty": a key of `d2ext.data.checks.kinds.KINDS`.
        where: the native file, with line or record: "labels/a.txt:3".
        detail: what was found there, in a few words with the values.
        split: name of the data set, such as "train". Readers leave it "": they do not know it.
        image: the image file that shows it, if one does.
        box: XYXY in pixels, if there is one to draw.
        image_index: position of the image in its `DatasetSplit`, if it is listed there.
        object_index: position of the object among all of its split, if it is about one.
        record: the object's id or line, if it is about one.
    """

    code: str
    where: str
    detail: str = ""
    split: str = ""
    image: Path | None = None
    box: tuple[float, ...] | None = None
    image_index: int | None = None
    object_index: int | None = None
    record: int | str | None = None

    def as_json(self) -> dict[str, Any]:
        """Return plain values that JSON can hold; numbers that are not finite become text."""
        return {
            "code": self.code,
            "split": self.split,
            "where": self.where,
            "record": _finite(self.record),
            "image": str(self.image) if self.image else None,
            "box": [_finite(value) for value in self.box] if self.box else None,
            "detail": self.detail,
        }


def reading_issue(code: str, what: str, where: str, image: str = "", found: str = "") -> Issue:
    """Return the issue of a file or record that could not be read.

    Args:
        code: see `Issue`.
        what: what is wrong with it, in a few words.
        where: see `Issue`.
        image: path or name of the image file that it belongs to.
        found: the text or value that was found there.
    """
    at = f" in {Path(image).name}" if image and image != where else ""
    detail = f"{what}{at}" + (f": {found}" if found else "")
    return Issue(code, where, detail, image=Path(image) if image else None)


def _finite(value: Any) -> Any:
    # JSON has no name for infinity and NaN; json.dumps would write what no other parser reads.
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
