"""`detectron2.structures.Instances`: fields of equal length."""

import copy
import pickle

import pytest
import torch

import d2ext  # noqa: F401
from detectron2.structures import Boxes, Instances

BAD = (ValueError, AssertionError)


def three() -> Instances:
    boxes = Boxes(torch.arange(12.0).reshape(3, 4))
    return Instances((10, 20), scores=torch.tensor([0.1, 0.5, 0.9]), names=list("abc"), boxes=boxes)


def test_fields_are_attributes():
    some = three()
    some.classes = torch.tensor([1, 2, 3])
    assert len(some) == 3
    assert some.image_size == (10, 20)
    assert some.has("classes")
    assert some.get("classes") is some.classes
    some.remove("classes")
    assert not some.has("classes")
    assert list(some.get_fields()) == ["scores", "names", "boxes"]


def test_a_missing_field_is_an_attribute_error():
    with pytest.raises(AttributeError, match="speed"):
        _ = three().speed


def test_fields_must_have_equal_length():
    with pytest.raises(BAD):
        three().classes = torch.zeros(2)


def test_an_attribute_with_an_underscore_is_not_a_field():
    some = three()
    some._note = "x"
    assert some._note == "x"
    assert not some.has("_note")


def test_indexing_applies_to_every_field():
    some = three()
    assert some[0].names == ["a"]
    assert some[-1].names == ["c"]
    assert some[1:].names == ["b", "c"]
    some.remove("names")
    kept = some[some.scores > 0.3]
    assert kept.scores.tolist() == pytest.approx([0.5, 0.9])
    assert kept.boxes.tensor[0].tolist() == [4, 5, 6, 7]
    assert kept.image_size == (10, 20)


@pytest.mark.parametrize("index", [3, -4])
def test_an_index_out_of_range_is_an_error(index: int):
    with pytest.raises(IndexError):
        three()[index]


def test_the_length_without_fields_is_an_error():
    with pytest.raises(NotImplementedError):
        len(Instances((1, 1)))
    with pytest.raises(NotImplementedError):
        iter(three())


def test_concatenation_joins_every_field():
    both = Instances.cat([three(), three()[:1]])
    assert both.names == ["a", "b", "c", "a"]
    assert both.scores.tolist() == pytest.approx([0.1, 0.5, 0.9, 0.1])
    assert len(both.boxes) == 4


def test_concatenation_of_one_returns_the_same_object():
    some = three()
    assert Instances.cat([some]) is some


def test_concatenation_of_two_image_sizes_is_refused():
    with pytest.raises(BAD):
        Instances.cat([Instances((1, 2)), Instances((2, 1))])


def test_moving_applies_to_fields_with_a_to_method():
    moved = three().to("cpu")
    assert moved.names == ["a", "b", "c"]
    assert moved.boxes.device == torch.device("cpu")


def test_instances_can_be_copied_and_pickled():
    for same in (copy.deepcopy(three()), pickle.loads(pickle.dumps(three()))):
        assert same.names == ["a", "b", "c"]
        assert same.image_size == (10, 20)


def test_the_repr_shows_number_and_fields():
    text = str(Instances((10, 20), names=["a"]))
    assert (
        text == "Instances(num_instances=1, image_height=10, image_width=20, fields=[names: ['a']])"
    )
