"""ASPP: outputs match Detectron2."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import d2ext  # noqa: F401
from detectron2.layers import ASPP
from tests.helpers.weights import fill, image


def features() -> torch.Tensor:
    return image(1, 12, 16)[None, [0, 1, 2, 0]] / 255


@pytest.mark.parametrize(
    ("options", "total"),
    [
        ({"norm": ""}, 1243.011963),
        ({"norm": "BN", "pool_kernel_size": (6, 8)}, 1222.368896),
        ({"norm": "BN", "use_depthwise_separable_conv": True}, 1097.0938720703125),
    ],
)
def test_outputs_match_detectron2(options: dict, total: float):
    layer = ASPP(4, 32, [2, 3, 4], activation=F.relu, dropout=0.5, **options)
    fill(layer)
    out = layer.eval()(features())
    assert out.shape == (1, 32, 12, 16)
    assert out.sum().item() == pytest.approx(total, rel=1e-4)


def test_every_branch_has_its_own_activation():
    layer = ASPP(3, 8, [1, 2, 3], norm="", activation=nn.PReLU())
    assert len({id(m) for m in layer.modules() if isinstance(m, nn.PReLU)}) == 6


def test_other_numbers_of_dilations_and_unfit_pooling_kernels_are_errors():
    with pytest.raises((ValueError, AssertionError)):
        ASPP(3, 8, [1, 2], norm="", activation=F.relu)
    layer = ASPP(4, 8, [1, 2, 3], norm="", activation=F.relu, pool_kernel_size=(5, 4))
    with pytest.raises(ValueError, match=r"\(5, 4\)"):
        layer(features())
