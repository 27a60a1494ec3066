import pytest
import torch

from d2ext.ops.autocast import cast_to_autocast


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        (torch.float32, torch.bfloat16),
        (torch.float16, torch.bfloat16),
        (torch.float64, torch.float64),
        (torch.int64, torch.int64),
    ],
)
def test_autocast_casts_floats_but_not_float64(dtype, expected):
    with torch.autocast("cpu", torch.bfloat16):
        assert cast_to_autocast(torch.zeros(2, dtype=dtype), "cpu").dtype == expected


def test_without_autocast_the_tensor_itself_is_returned():
    tensor = torch.zeros(2)
    assert cast_to_autocast(tensor, "cpu") is tensor
