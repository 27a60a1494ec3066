"""Keypoint names: which of them change places in a mirrored image.

Names are compared by words, in any case: "Left Eye", "l_eye", "eyeL" and "linkes Auge" are left.
"""

import re
from collections.abc import Sequence

# Parts of words for the left and the right side: English, German and Dutch, French, Spanish,
# Portuguese, Italian, Slavic languages, Swedish, Danish, Norwegian, Finnish, Turkish, Indonesian,
# Vietnamese, Chinese and Japanese, Korean.
_SIDES = (
    ("left", "right"),
    ("lft", "rgt"),
    ("link", "recht"),
    ("gauche", "droite"),
    ("gauche", "droit"),
    ("izquierd", "derech"),
    ("izq", "der"),
    ("esquerd", "direit"),
    ("sinistr", "destr"),
    ("лев", "прав"),
    ("lew", "praw"),
    ("li", "re"),
    ("lev", "prav"),
    ("sx", "dx"),
    ("vänster", "höger"),
    ("venstre", "højre"),
    ("venstre", "høyre"),
    ("vasen", "oikea"),
    ("sol", "sağ"),
    ("kiri", "kanan"),
    ("trái", "phải"),
    ("左", "右"),
    ("왼", "오른"),
)
_LETTER = re.compile(r"(?<![a-z])l(?![a-z])")
_CORNER = re.compile(r"(?<![a-z])([bfrtu])l(?![a-z])")  # top left, "tl", rear left, "RL", ...
_RIGHT = re.compile(r"right|(?<![a-z])r(?![a-z])")
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


def mirror_pairs(names: Sequence[str]) -> list[tuple[str, str]]:
    """Pair the names of points that change places in a mirrored image, left ones first."""
    known = {_plain(name): name for name in names}
    pairs = []
    for name in names:
        other = next((known[m] for m in _mirrored(_plain(name)) if m in known), None)
        if other is not None and other != name:
            pairs.append((name, other))
    return pairs


def one_sided(names: Sequence[str], pairs: Sequence[tuple[str, str]]) -> list[str]:
    """Return the names of a left or right side that have no partner among `names`."""
    paired = {name for pair in pairs for name in pair}
    return [name for name in names if name not in paired and _has_side(_plain(name))]


def _plain(name: str) -> str:
    return _HUMP.sub("_", name).lower()


def _mirrored(name: str) -> list[str]:
    """Return what the right one of a pair may be called; nothing for the name of no left one."""
    found = [name.replace(left, right) for left, right in _SIDES if left in name]
    if _LETTER.search(name):  # l_eye, eye_l, "eye L"
        found.append(_LETTER.sub("r", name))
    if _CORNER.search(name):
        found.append(_CORNER.sub(r"\1r", name))
    if name.startswith("l"):  # lshoulder; only a partner that exists makes it a pair
        found.append(f"r{name[1:]}")
    return found


def _has_side(name: str) -> bool:
    return "left" in name or bool(_LETTER.search(name) or _RIGHT.search(name))
