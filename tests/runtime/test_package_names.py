"""Names outside the documented API that published packages import."""

import pytest
import torch

import d2ext  # noqa: F401
from detectron2.data.transforms import HFlipTransform
from detectron2.data.transforms.augmentation import Augmentation, _transform_to_aug
from detectron2.layers.wrappers import _NewEmptyTensorOp
from detectron2.modeling.backbone.fpn import _assert_strides_are_log2_contiguous
from detectron2.modeling.meta_arch.retinanet import permute_to_N_HWA_K
from detectron2.solver.lr_scheduler import _get_warmup_factor_at_iter
from detectron2.utils.env import fixup_module_metadata


def test_pyramid_strides_that_do_not_double_are_an_error():  # detrex
    _assert_strides_are_log2_contiguous([4, 8, 16])
    with pytest.raises((AssertionError, ValueError), match="12"):
        _assert_strides_are_log2_contiguous([4, 12])


def test_warm_up_factors_by_hand():  # unbiased-teacher, kMaX-DeepLab
    assert _get_warmup_factor_at_iter("linear", 2, 10, 0.1) == pytest.approx(0.28)
    assert _get_warmup_factor_at_iter("constant", 2, 10, 0.1) == 0.1
    assert _get_warmup_factor_at_iter("linear", 10, 10, 0.1) == 1.0


def test_an_empty_tensor_op_keeps_the_graph():  # TridentNet
    x = torch.zeros(0, 3, requires_grad=True)
    y = _NewEmptyTensorOp.apply(x, (0, 5, 2))
    y.sum().backward()
    assert y.shape == (0, 5, 2)
    assert x.grad is not None


def test_predictions_are_permuted_to_rows_of_anchors():  # TensorMask
    assert permute_to_N_HWA_K(torch.zeros(2, 3 * 4, 5, 6), 4).shape == (2, 5 * 6 * 3, 4)


def test_a_transform_is_wrapped_as_an_augmentation():  # CutLER
    flip = HFlipTransform(4)
    augmentation = _transform_to_aug(flip)
    assert isinstance(augmentation, Augmentation)
    assert _transform_to_aug(augmentation) is augmentation


def test_fixup_module_metadata_changes_no_module_outside_of_documentation_builds():  # CutLER
    inner = type("Inner", (), {"__module__": "package.private"})
    namespace = {"Inner": inner}
    assert fixup_module_metadata("package", namespace, ["Inner"]) is None
    assert namespace == {"Inner": inner}
    assert inner.__module__ == "package.private"
