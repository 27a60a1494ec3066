"""The URI of weights: a name, path or address, with an optional checksum."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from d2ext.errors import WeightsError
from d2ext.model_zoo import ModelEntry, model_named, model_of_url
from d2ext.model_zoo.digest import check_digest
from d2ext.model_zoo.download import ResumingHandler
from d2ext.model_zoo.fetch import check, fetch
from detectron2.utils.file_io import PathManager

HEURISTICS = "?matching_heuristics=True"
SHA256 = "#sha256="
_SUFFIXES = (".pth", ".pt", ".pkl", ".safetensors")

PathManager.register_handler(ResumingHandler(), allow_override=True)


@dataclass(frozen=True)
class WeightsURI:
    """A path or address of weights, parsed.

    Args:
        path: a file, a URL, another address that Detectron2's path manager knows, or a name of
            `d2ext.model_zoo`.
        sha256: the checksum that the file must have, or its first digits; "" for any.
        heuristics: match names by their ends, as Detectron2 does.
    """

    path: str
    sha256: str = ""
    heuristics: bool = False

    @classmethod
    def parse(cls, text: str) -> "WeightsURI":
        """Parse "PATH?matching_heuristics=True#sha256=DIGITS"; only the path is needed.

        Raises:
            WeightsError: the checksum is malformed.
        """
        path, _, sha256 = text.partition(SHA256)
        if SHA256 in text and not re.fullmatch("[0-9a-fA-F]{64}", sha256):
            raise WeightsError(f"{text}: {SHA256}... takes 64 hexadecimal digits.")
        return cls(path.removesuffix(HEURISTICS), sha256.lower(), path.endswith(HEURISTICS))

    @property
    def is_name(self) -> bool:
        """True if the path is no file and can only be a name of `d2ext.model_zoo`."""
        named = "://" not in self.path and not self.path.endswith(_SUFFIXES)
        return named and not os.path.exists(self.path)


def local_file(text: str) -> Path:
    """Return the local file of a name, path or address; it is downloaded once, and checked.

    A licence that excludes commercial use is logged.

    Args:
        text: a URI that `WeightsURI.parse` takes.
    Raises:
        WeightsError: the name is unknown, the file is missing, cannot be fetched or has another
            checksum.
    """
    source = WeightsURI.parse(text)
    entry = published_model(source)
    if entry is not None and source.is_name:
        path = fetch(entry)
    else:
        path = _fetched(source.path)
        if not path.is_file():
            raise WeightsError(f"{path}: no such file of weights; see MODEL.WEIGHTS.")
        if entry is not None:
            check(entry, path)
    if source.sha256:
        check_digest(path, source.sha256)
    return path


def published_model(source: WeightsURI) -> ModelEntry | None:
    """Return the entry of the model zoo that a source names, or whose address it is.

    Raises:
        WeightsError: the source is a name, and unknown.
    """
    if source.is_name:
        return model_named(source.path)
    return model_of_url(source.path) if "://" in source.path else None


def _fetched(address: str) -> Path:
    try:
        return Path(PathManager.get_local_path(address))
    except (OSError, RuntimeError) as error:
        raise WeightsError(f"{address}: cannot be fetched: {error}") from error
