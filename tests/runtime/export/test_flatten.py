import pytest
import torch
from torch import nn

from detectron2.export import TracingAdapter
from detectron2.export.flatten import flatten_to_tuple
from detectron2.structures import Boxes, Instances


def test_nested_objects_are_flattened_and_built_again():
    nested = [3, ([5, 6], {"b": [7, 9], "a": 3})]
    values, schema = flatten_to_tuple(nested)
    assert values == (3, 5, 6, 3, 7, 9)
    assert schema(values) == nested
    assert flatten_to_tuple(schema(values))[1] == schema


def test_instances_are_flattened_with_their_boxes_and_size():
    size, boxes = torch.tensor([5, 8]), Boxes(torch.ones(1, 4))
    instances = Instances(size, scores=torch.tensor([3.0]), pred_boxes=boxes)
    values, schema = flatten_to_tuple(instances)
    assert values[0] is boxes.tensor
    assert values[2] is size
    again = schema(values)
    assert isinstance(again.pred_boxes, Boxes)
    assert again.scores is instances.scores


class Detector(nn.Module):
    """A detector that returns one box per bright row."""

    def forward(self, batch):
        rows = (batch[0]["image"].mean(dim=1) > 0.5).nonzero()[:, 0].float()
        boxes = torch.stack((rows * 0, rows, rows * 0 + 4, rows + 1), dim=1)
        return [{"instances": Instances((6, 4), pred_boxes=Boxes(boxes), scores=rows)}]


def image(*bright):
    rows = torch.zeros(6, 4)
    rows[list(bright)] = 1
    return rows


def test_a_traced_model_returns_another_number_of_objects():
    adapter = TracingAdapter(Detector(), ([{"image": image(1, 2)}],))
    traced = torch.jit.trace(adapter, adapter.flattened_inputs)
    found = adapter.outputs_schema(traced(image(0, 3, 5)))[0]["instances"]
    assert found.scores.tolist() == [0, 3, 5]
    assert found.pred_boxes.tensor[1].tolist() == [0, 3, 4, 4]
    assert tuple(found.image_size) == (6, 4)


def test_the_inference_function_calls_the_model():
    adapter = TracingAdapter(
        Detector(), image(1), lambda model, x: model([{"image": x}])[0]["instances"].scores
    )
    assert adapter(image(4))[0].tolist() == [4]


def test_values_other_than_tensors_are_refused_or_omitted():
    class First(nn.Module):
        def forward(self, tensor, number):
            return tensor

    inputs = (torch.tensor([5, 8]), 3)
    with pytest.raises(ValueError, match="must only contain tensors"):
        TracingAdapter(First(), inputs)
    adapter = TracingAdapter(First(), inputs, allow_non_tensor=True)
    assert adapter(*adapter.flattened_inputs)[0] is inputs[0]
    with pytest.raises(ValueError, match="cannot generalize"):
        adapter(inputs[0].clone())
