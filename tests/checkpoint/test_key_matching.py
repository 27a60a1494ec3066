import pytest
import torch

from d2ext.checkpoint.key_matching import check_classes, match, refuse_foreign, refuse_incomplete
from d2ext.errors import WeightsError

MODEL = {"a": torch.zeros(2), "b": torch.zeros(3), "pixel_mean": torch.zeros(3)}


def test_each_name_is_counted_once() -> None:
    found = match({"a": torch.ones(2), "b": torch.ones(4), "c": torch.ones(1)}, MODEL)
    assert (found.matched, found.missing, found.unexpected) == (["a"], [], ["c"])
    assert found.mismatched == [("b", (4,), (3,))]
    summary = found.summary()
    assert "1 tensors matched" in summary
    assert "b (4,) in the file, (3,) in the model" in summary
    assert "1 unused, not in the model: c" in summary


def test_names_that_differ_in_numbers_are_listed_together() -> None:
    found = match({f"x.{n}": torch.zeros(1) for n in range(9)}, MODEL)
    assert "9 unused, not in the model: x.* (9)" in found.summary()


def test_a_long_list_is_cut() -> None:
    found = match({name: torch.zeros(1) for name in "ghijklmno"}, MODEL)
    assert "k and 4 more" in found.summary()


def test_constants_of_the_model_are_not_missed() -> None:
    assert match({"a": torch.ones(2), "b": torch.ones(3)}, MODEL).complete


def test_weights_of_another_model_are_refused() -> None:
    with pytest.raises(WeightsError, match=r"^w\.pth: weights of another model.* 0 tensors.*$"):
        refuse_foreign("w.pth", match({"x": torch.zeros(1)}, MODEL))
    refuse_foreign("w.pth", match({"x": torch.zeros(1), "a": torch.ones(2)}, MODEL))


def test_an_empty_file_is_refused() -> None:
    with pytest.raises(WeightsError):
        refuse_foreign("w.pth", match({}, MODEL))


def test_incomplete_weights_are_refused() -> None:
    with pytest.raises(WeightsError, match="left fresh, not in the file: b"):
        refuse_incomplete("w.pth", match({"a": torch.ones(2)}, MODEL))


def test_same_or_unknown_classes_pass() -> None:
    check_classes(["cat", "dog"], ("cat", "dog"))
    check_classes(None, ("cat", "dog"))


def test_other_classes_are_named() -> None:
    with pytest.raises(WeightsError, match="only in the weights: cat; only in the data: cow"):
        check_classes(["cat", "dog"], ["dog", "cow"])


def test_another_order_of_classes_is_an_error() -> None:
    with pytest.raises(WeightsError, match="order: cat, dog in the weights, dog, cat in the data"):
        check_classes(["cat", "dog"], ["dog", "cat"])
