import pytest
import torch

from detectron2.structures import Boxes, Instances

testing = pytest.importorskip("detectron2.utils.testing", exc_type=ImportError)


def instances(**fields):
    boxes = Boxes(torch.tensor([[0.0, 0.0, 3.0, 4.0]]))
    return Instances((10, 20), pred_boxes=boxes, scores=torch.tensor([0.5]), **fields)


def test_random_boxes_are_not_empty():
    boxes = testing.random_boxes(50, max_coord=10)
    assert boxes.shape == (50, 4)
    assert ((boxes[:, 2:] - boxes[:, :2]) > 0.999).all()
    assert boxes.max() <= 10


def test_assert_instances_allclose_accepts_equal_instances():
    testing.assert_instances_allclose(instances(), instances())


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (Instances((11, 20)), "image_size"),
        (Instances((10, 20)), "Fields"),
        (instances(extra=torch.ones(1)), "Fields"),
        (Instances((10, 20), **{**instances().get_fields(), "scores": torch.zeros(1)}), "scores"),
    ],
)
def test_assert_instances_allclose_names_the_difference(other, message):
    with pytest.raises(AssertionError, match=message):
        testing.assert_instances_allclose(instances(), other)
