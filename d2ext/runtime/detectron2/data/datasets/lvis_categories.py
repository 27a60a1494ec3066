"""Reader of the LVIS category tables, CSV files beside this module."""

import csv
from pathlib import Path
from typing import Any


def read_lvis_categories(filename: str) -> list[dict[str, Any]]:
    """Read a table of LVIS categories: one dict per row, in the order of their ids.

    The dicts have the keys of the annotation files except "def", which WordNet defines, and
    "image_count" where the table has that column.

    Args:
        filename: table in this folder. Its column "synonyms" is separated by semicolons.
    """
    with Path(__file__).with_name(filename).open(newline="", encoding="utf-8") as file:
        return [_parse_row(row) for row in csv.DictReader(file)]


def _parse_row(row: dict[str, str]) -> dict[str, Any]:
    numbers: dict[str, int] = {key: int(row[key]) for key in ("id", "image_count") if key in row}
    return {**row, **numbers, "synonyms": row["synonyms"].split(";")}
