"""Models as d2ext builds them compute what Detectron2's compute, in their names."""

import pytest
import torch
from torch import nn

from d2ext import layers
from d2ext.modeling import build_model
from d2ext.modeling.folded_conv import FoldedConv2d
from d2ext.modeling.poolers import SortingROIPooler, register_pooling_layer
from detectron2.layers import ROIAlign, ROIAlignRotated
from detectron2.modeling.poolers import ROIPooler
from detectron2.structures import Boxes
from tests.helpers.runtime_rcnn import batch, fill, tiny_config, tiny_model
from tests.test_rcnn_recipes import step

CHANGES = {"MODEL__MASK_ON": True, "MODEL__BACKBONE__FREEZE_AT": 2}


def losses_and_gradients(model: nn.Module) -> tuple[dict, dict]:
    losses = step(model, batch())
    gradients = {name: p.grad for name, p in model.named_parameters() if p.requires_grad}
    return losses, gradients


def test_losses_and_gradients_are_those_of_detectron2() -> None:
    own, plain = fill(build_model(tiny_config(**CHANGES))), tiny_model(**CHANGES)
    assert sum(isinstance(module, FoldedConv2d) for module in own.modules()) == 53
    kinds = {type(module) for module in own.modules() if "ROIAlign" in type(module).__name__}
    assert kinds == {layers.ROIAlign}
    assert set(own.state_dict()) == set(plain.state_dict())
    found, expected = losses_and_gradients(own), losses_and_gradients(plain)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


def test_regions_of_several_levels_keep_their_order() -> None:
    pooler = ROIPooler(3, [1 / 4, 1 / 8, 1 / 16], 2, "ROIAlignV2", canonical_level=3)
    maps = [torch.rand(2, 4, side, side, requires_grad=True) for side in (64, 32, 16)]
    corners, sides = torch.rand(2, 20, 2) * torch.tensor([[[100.0]], [[250.0]]])
    boxes = [Boxes(torch.cat((corners, corners + sides), 1)), Boxes(torch.empty(0, 4))]
    for lists in (boxes, boxes[::-1], [boxes[1], boxes[1]]):
        found, expected = SortingROIPooler(pooler)(maps, lists), pooler(maps, lists)
        torch.testing.assert_close(found, expected)
        gradients = [torch.autograd.grad(out.square().sum(), maps) for out in (found, expected)]
        torch.testing.assert_close(*gradients)
    assert len(SortingROIPooler(pooler)(maps, [])) == 0


def test_rotated_regions_are_pooled_by_d2ext_too() -> None:
    model = build_model(tiny_config(MODEL__ROI_BOX_HEAD__POOLER_TYPE="ROIAlignRotated"))
    poolers = [type(module) for module in model.roi_heads.box_pooler.level_poolers]
    assert poolers == [layers.ROIAlignRotated] * 4


def test_pooling_layers_are_registered_once() -> None:
    for kind in (ROIAlign, ROIAlignRotated):
        with pytest.raises(ValueError, match="pooling layer"):
            register_pooling_layer(kind, lambda layer: layer)
