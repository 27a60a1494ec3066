from dataclasses import dataclass

import numpy as np
import pytest
from PIL import Image

from d2ext.visualization.class_counts import _frequent_first, save_class_counts


@dataclass
class Facts:
    class_names: tuple[str, ...]
    class_counts: np.ndarray
    object_sizes: np.ndarray
    image_sizes: np.ndarray


def facts(*counts, names=None):
    counts = np.array(counts, dtype=np.int64)
    names = names or tuple(f"class {i}" for i in range(len(counts)))
    sizes = np.full((counts.sum(), 2), 40.0)
    return Facts(tuple(names), counts, sizes, np.full((3, 2), 100))


def shape_of(picture):
    return np.asarray(Image.open(picture).convert("RGB")).shape


def test_the_most_frequent_class_of_the_first_set_stands_first():
    train, val = facts(1, 5, 3), facts(9, 8, 7)
    names, counts = _frequent_first({"train": train, "val": val})
    assert names == ["class 1", "class 2", "class 0"]
    assert counts["val"].tolist() == [8, 7, 9]


def test_of_many_classes_the_most_and_least_frequent_are_shown():
    names, _ = _frequent_first({"": facts(*range(1000))})
    assert len(names) == 120
    assert (names[0], names[-1]) == ("class 999", "class 0")


@pytest.mark.parametrize("classes", [1, 3, 80])
def test_the_picture_grows_with_the_classes_within_reason(classes, tmp_path):
    save_class_counts(facts(*range(1, classes + 1)), tmp_path / "c.png")
    height, width, _ = shape_of(tmp_path / "c.png")
    assert 500 < height < 1500
    assert 1000 < width < 3000


def test_train_and_val_are_drawn_beside_each_other(tmp_path):
    save_class_counts({"train": facts(4, 2), "val": facts(2, 4)}, tmp_path / "two.png")
    save_class_counts({"train": facts(4, 2)}, tmp_path / "one.png")
    orange = np.array([232, 102, 60])

    def has_orange(name):
        image = np.asarray(Image.open(tmp_path / name).convert("RGB"))
        return (image == orange).all(-1).sum() > 500

    assert has_orange("two.png")
    assert not has_orange("one.png")


@pytest.mark.filterwarnings("ignore:Glyph")
def test_names_of_any_kind_are_drawn_as_text(tmp_path):
    names = ["$x_{2", "_private", "треугольник", "三角形", "a" * 200, ""]
    save_class_counts(facts(1, 2, 3, 4, 5, 6, names=names), tmp_path / "c.png")
    assert shape_of(tmp_path / "c.png")[0] > 500


def test_a_set_without_objects_gives_a_picture(tmp_path):
    save_class_counts(facts(0, 0), tmp_path / "c.png")
    assert shape_of(tmp_path / "c.png")[0] > 500
