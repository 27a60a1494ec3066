"""Reads the tables of LVIS's categories."""

from typing import Any


def parse_categories(table: str) -> list[dict[str, Any]]:
    """One dict per row, with LVIS's keys except "def" (WordNet has the definitions).

    Args:
        table: rows "frequency synset name,name" that end in ";". The frequency is r, c or f, or the
            number of training images; a synset that is only a number is the first name's noun.
    """
    rows = [row.split(maxsplit=2) for row in table.replace("\n", " ").split(";")]
    return [_category(index, *row) for index, row in enumerate(rows, start=1)]


def _category(category_id: int, frequency: str, synset: str, names: str) -> dict[str, Any]:
    synonyms = [name.strip() for name in names.split(",")]
    category: dict[str, Any] = {
        "id": category_id,
        "frequency": frequency,
        "synset": f"{synonyms[0]}.n.{synset}" if synset.isdecimal() else synset,
        "synonyms": synonyms,
        "name": "bull" if synset == "bull.n.11" else synonyms[0],  # LVIS's own exception, v1 only
    }
    if frequency.isdecimal():
        category["image_count"] = int(frequency)
        category["frequency"] = _frequency(int(frequency))
    return category


def _frequency(images: int) -> str:
    """LVIS's classes: rare, common or frequent."""
    return "r" if images <= 10 else "c" if images <= 100 else "f"
