"""Parts of a data set that has no validation data: a random share of the images is held out."""

import random
from dataclasses import dataclass, replace

from d2ext.data.formats.dataset_split import DatasetSplit
from d2ext.errors import DataError


@dataclass(frozen=True)
class Holdout:
    """A random share of the images, the same ones each time, or the rest.

    Args:
        held: the share itself; False: what is left for training.
        share: of the images, between 0 and 1.
        seed: which images.
    """

    held: bool
    share: float
    seed: int

    @classmethod
    def parse(cls, text: str) -> "Holdout":
        """From what `str` gives: "held 0.2 seed 0" or "without 0.2 seed 0".

        Raises:
            DataError: the text is something else.
        """
        words = text.split()
        try:
            kind, share, _, seed = words
            found = cls({"held": True, "without": False}[kind], float(share), int(seed))
        except (ValueError, KeyError):
            raise DataError(
                f'DATASETS.REGISTER: expected "held SHARE seed NUMBER", got {text!r}.'
            ) from None
        if not 0 < found.share < 1:
            raise DataError(f"{share}: a share of the images is between 0 and 1.")
        return found

    def __str__(self) -> str:
        return f"{'held' if self.held else 'without'} {self.share} seed {self.seed}"

    def of(self, dataset: DatasetSplit) -> DatasetSplit:
        """`dataset` with only these images; at least one image is on either side.

        Raises:
            DataError: there is only one image.
        """
        count = len(dataset.images)
        if count < 2:
            raise DataError(f"{dataset.path}: {count} image; two are needed to hold one out.")
        order = sorted(range(count), key=lambda n: dataset.images[n]["file_name"])
        random.Random(self.seed).shuffle(order)
        number = min(count - 1, max(1, round(self.share * count)))
        chosen = set(order[:number] if self.held else order[number:])
        images = [image for n, image in enumerate(dataset.images) if n in chosen]
        return replace(dataset, images=images, split="val" if self.held else "train")
