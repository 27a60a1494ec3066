"""Holding out: a random share of the images evaluates, where a data set has no validation split."""

import random
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from d2ext.data.formats.dataset_split import DatasetSplit
from d2ext.data.issues import Issue
from d2ext.errors import ConfigError, DataError


@dataclass(frozen=True)
class Holdout:
    """One of the two parts of a data set, the same images each time.

    Args:
        part: "val", the share that is held out, or "train", the rest.
        share: of the images, between 0 and 1.
        seed: of the random choice.
    Raises:
        ConfigError: a value is something else.
    """

    part: str
    share: float
    seed: int = 0

    def __post_init__(self) -> None:
        if self.part not in ("train", "val") or not isinstance(self.seed, int):
            raise ConfigError(f"holdout: part is train or val, and seed a number, got {self}.")
        if not isinstance(self.share, (int, float)) or not 0 < self.share < 1:
            raise ConfigError(f"holdout: {self.share}: a share of the images is between 0 and 1.")

    @classmethod
    def from_mapping(cls, fields: Mapping[str, Any]) -> "Holdout":
        """Build one from the fields of a config.

        Raises:
            ConfigError: a field is missing, unknown or has another value.
        """
        try:
            return cls(**fields)
        except TypeError:
            raise ConfigError(
                f"holdout: expected the fields part, share and seed, got {fields!r}."
            ) from None

    def as_mapping(self) -> dict[str, Any]:
        """Return the fields, as a config has them."""
        return asdict(self)

    def of(self, dataset: DatasetSplit) -> DatasetSplit:
        """Return `dataset` with only these images; at least one image is in either part.

        Raises:
            DataError: there is only one image.
        """
        count = len(dataset.images)
        if count < 2:
            raise DataError(f"{dataset.path}: {count} image; two are needed to hold one out.")
        order = sorted(range(count), key=lambda n: dataset.images[n]["file_name"])
        random.Random(self.seed).shuffle(order)
        number = min(count - 1, max(1, round(self.share * count)))
        chosen = set(order[:number] if self.part == "val" else order[number:])
        images = [image for n, image in enumerate(dataset.images) if n in chosen]
        issues = self._issues(dataset, {image["file_name"] for image in images})
        return replace(dataset, images=images, issues=issues, split=self.part, coco_file=None)

    def _issues(self, dataset: DatasetSplit, files: set[str]) -> list[Issue]:
        """Return the issues of the images `files`; those of no image belong to "train"."""
        listed = {image["file_name"] for image in dataset.images}
        rest = self.part == "train"
        return [
            issue
            for issue in dataset.issues
            if str(issue.image) in files or (rest and str(issue.image) not in listed)
        ]
