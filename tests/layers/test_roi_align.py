import inspect

import pytest
import torch

import d2ext  # noqa: F401
from d2ext.layers import ROIAlign, ROIAlignRotated
from d2ext.ops import roi_align, roi_align_rotated

MAPS = torch.rand(1, 2, 8, 8)


def test_the_modules_call_the_operators_with_their_options():
    boxes = torch.tensor([[0, 3.0, 4.0, 12.0, 14.0]])
    expected = roi_align(MAPS, boxes, (3, 3), 0.5, 2, aligned=True)
    torch.testing.assert_close(ROIAlign(3, 0.5, 2)(MAPS, boxes), expected)
    boxes = torch.tensor([[0, 7.0, 8.0, 6.0, 4.0, 30.0]])
    expected = roi_align_rotated(MAPS, boxes, (2, 4), 0.5, 2)
    torch.testing.assert_close(ROIAlignRotated((2, 4), 0.5, 2)(MAPS, boxes), expected)


@pytest.mark.parametrize("own", [ROIAlign, ROIAlignRotated])
def test_signatures_equal_detectron2s(own):
    theirs = pytest.importorskip("detectron2.layers")
    if not hasattr(theirs, own.__name__):
        pytest.skip(f"this detectron2 has no {own.__name__}")
    expected = inspect.signature(getattr(theirs, own.__name__)).parameters
    found = inspect.signature(own).parameters
    assert [(p.name, p.default) for p in found.values()] == [
        (p.name, p.default) for p in expected.values()
    ]
