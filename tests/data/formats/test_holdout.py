"""Shares that are held out."""

from pathlib import Path

import pytest

from d2ext.data.formats import DatasetSplit
from d2ext.data.formats.holdout import Holdout
from d2ext.errors import DataError


def source(count):
    images = [{"file_name": f"{n}.png", "image_id": n, "annotations": []} for n in range(count)]
    return DatasetSplit("COCO", Path("x"), "train", "boxes", ("cat",), images)


def names(found):
    return {image["file_name"] for image in found.images}


@pytest.mark.parametrize(("count", "share", "held"), [(10, 0.2, 2), (3, 0.01, 1), (2, 0.99, 1)])
def test_both_parts_together_are_all_images(count, share, held):
    both = [Holdout(part, share, 0).of(source(count)) for part in (True, False)]
    assert names(both[0]) | names(both[1]) == names(source(count))
    assert [len(part.images) for part in both] == [held, count - held]


def test_the_share_depends_on_the_seed_and_on_nothing_else():
    first, again = (Holdout(True, 0.3, 7).of(source(100)) for _ in range(2))
    assert names(first) == names(again) != names(Holdout(True, 0.3, 8).of(source(100)))


def test_it_is_written_and_read_as_text():
    share = Holdout(False, 0.25, 3)
    assert Holdout.parse(str(share)) == share


@pytest.mark.parametrize("text", ["0.2", "held x seed 1", "some 0.2 seed 1", "held 2 seed 1"])
def test_other_texts_are_refused(text):
    with pytest.raises(DataError):
        Holdout.parse(text)


def test_one_image_cannot_be_parted():
    with pytest.raises(DataError, match="two are needed"):
        Holdout(True, 0.5, 0).of(source(1))
