import pytest
import torch

from d2ext.ops.checks import check_dtypes, check_rotated_boxes

FLOAT, HALF = torch.zeros(2), torch.zeros(2, dtype=torch.float16)


def test_positions_may_be_float32_beside_half_types():
    check_dtypes(HALF, HALF, None, or_float32=(FLOAT, None))
    with pytest.raises(ValueError, match="expected one dtype"):
        check_dtypes(HALF, FLOAT)


@pytest.mark.parametrize("position", [HALF, FLOAT.double()])
def test_positions_beside_float32_must_be_float32(position):
    with pytest.raises(ValueError, match="expected one dtype"):
        check_dtypes(FLOAT, or_float32=(position,))


@pytest.mark.parametrize("tensor", [FLOAT.long(), FLOAT.to("meta")])
def test_integers_and_other_devices_raise(tensor):
    with pytest.raises(ValueError, match="expected floats on cpu"):
        check_dtypes(FLOAT, tensor)


def test_the_message_names_the_boxes():
    with pytest.raises(ValueError, match=r"anchors must be \(N, 5\) XYWHA, got \(2,\)"):
        check_rotated_boxes(FLOAT, "anchors")
