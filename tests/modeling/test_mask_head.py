import copy

import pytest
import torch

from d2ext.modeling.mask_head import PredictedClassMaskHead, predict_masks_of_classes
from detectron2.layers import ShapeSpec
from detectron2.modeling.roi_heads.mask_head import MaskRCNNConvUpsampleHead
from detectron2.structures import Instances


def regions(*classes):
    found = [Instances((8, 8)) for _ in classes]
    for instances, labels in zip(found, classes, strict=True):
        instances.pred_classes = torch.tensor(labels, dtype=torch.int64)
    return found


@pytest.mark.parametrize("num_classes", [1, 3])
@pytest.mark.parametrize("norm", ["", "GN"])
@torch.no_grad()
def test_masks_are_those_of_the_original_head(num_classes, norm):
    torch.manual_seed(0)
    head = MaskRCNNConvUpsampleHead(
        ShapeSpec(channels=8, width=6, height=6),
        num_classes=num_classes,
        conv_dims=[32, 32, 5],
        conv_norm=norm,
    ).eval()
    head.predictor.weight.normal_()
    head.predictor.bias.normal_()
    own = predict_masks_of_classes(copy.deepcopy(head))
    assert isinstance(own, PredictedClassMaskHead)
    features = torch.randn(4, 8, 6, 6)
    labels = ([0, 2, 1], [], [2]) if num_classes == 3 else ([0, 0, 0], [], [0])
    expected = head(features, regions(*labels))
    found = own(features, regions(*labels))
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.pred_masks.shape[1:] == (1, 12, 12)
        torch.testing.assert_close(ours.pred_masks, theirs.pred_masks)


def test_heads_of_other_classes_stay():
    kind = type("Own", (MaskRCNNConvUpsampleHead,), {})
    head = kind(ShapeSpec(channels=8, width=6, height=6), num_classes=1, conv_dims=[4])
    assert type(predict_masks_of_classes(head)) is kind
