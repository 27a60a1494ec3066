"""Fonts for names of classes and files in any script."""

from functools import lru_cache

from matplotlib import font_manager
from matplotlib.ft2font import FT2Font

# Ships with matplotlib; covers Latin, Greek, Cyrillic, Arabic and Hebrew.
BASE = "DejaVu Sans"

# For other scripts, whichever of these is installed.
_WIDER = (
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "Noto Sans CJK KR",
    "WenQuanYi Zen Hei",
    "Droid Sans Fallback",
    "Microsoft YaHei",
    "Yu Gothic",
    "Malgun Gothic",
    "PingFang SC",
    "Hiragino Sans",
    "Apple SD Gothic Neo",
    "Arial Unicode MS",
    "Nirmala UI",
    "Noto Sans Devanagari",
    "Noto Sans Thai",
)


@lru_cache(maxsize=1)
def families() -> tuple[str, ...]:
    """Return `BASE` and the installed fonts for other scripts, as matplotlib's `fontfamily`."""
    installed = {font.name for font in font_manager.fontManager.ttflist}
    return (BASE, *(name for name in _WIDER if name in installed))


@lru_cache(maxsize=1024)
def font_file(text: str) -> str:
    """Return the font file, for Pillow, that covers most characters of `text`."""
    characters = {ord(c) for c in text if not c.isspace()}
    files = [font_manager.findfont(family) for family in families()]
    return min(files, key=lambda file: len(characters - _covered(file)))


@lru_cache(maxsize=32)
def _covered(file: str) -> frozenset[int]:
    return frozenset(FT2Font(file).get_charmap())
