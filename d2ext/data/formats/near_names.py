"""Files whose names differ from those in annotations by what tools and file systems change."""

import os
import unicodedata
from collections.abc import Sequence
from urllib.parse import unquote

from d2ext.data.formats.image_files import IMAGE_SUFFIXES, stem


class NearNames:
    """Finds the image in a folder that a name stands for, where no file has exactly this name.

    Names may differ by case, Unicode form (NFC or NFD), percent encoding, the query of an address,
    spaces around them, and the suffix. A name that may stand for several files stands for none.
    """

    def __init__(self) -> None:
        self._folders: dict[str, tuple[frozenset[str], dict[str, set[str]]]] = {}

    def is_listed(self, folder: str, name: str) -> bool:
        """Return true if a file of exactly this name is in the folder."""
        return name in self._listing(folder)[0]

    def find(self, folder: str, name: str) -> str | None:
        """Return the file name in the folder that `name` stands for, None if there is not one."""
        near = self._listing(folder)[1]
        for key in (_plain(name), stem(_plain(name))):
            if found := near.get(key):
                return next(iter(found)) if len(found) == 1 else None
        return None

    def _listing(self, folder: str) -> tuple[frozenset[str], dict[str, set[str]]]:
        if folder not in self._folders:
            names = _names_in(folder)
            near: dict[str, set[str]] = {}
            for name in names:
                if name.lower().endswith(IMAGE_SUFFIXES) and not name.startswith("."):
                    near.setdefault(_plain(name), set()).add(name)
                    near.setdefault(stem(_plain(name)), set()).add(name)
            self._folders[folder] = frozenset(names), near
        return self._folders[folder]


def unicode_forms(name: str) -> Sequence[str]:
    """Return the composed and decomposed forms of a name; () where there is but one."""
    return () if name.isascii() else [unicodedata.normalize(form, name) for form in ("NFC", "NFD")]


def _plain(name: str) -> str:
    """Return what all spellings of a name share."""
    decoded = unquote(name.partition("?")[0]).strip()
    return unicodedata.normalize("NFC", decoded).casefold()


def _names_in(folder: str) -> list[str]:
    try:
        return os.listdir(folder or ".")
    except OSError:
        return []
