"""`detectron2.utils.tracing`: assertions that tracing skips."""

import pytest
import torch
from torch import Tensor, nn

from d2ext._detectron2 import provider
from detectron2.utils.tracing import assert_fx_safe, is_fx_tracing


class Checked(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        self.traced = is_fx_tracing()
        self.looked_at = assert_fx_safe(x.shape[0] == 1, "one image at a time")
        return x + 1


def test_a_condition_is_checked_when_the_model_runs():
    model = Checked()
    model(torch.zeros(1, 2))
    assert not model.traced
    assert model.looked_at.tolist() == [1.0]
    with pytest.raises(AssertionError, match="one image at a time"):
        model(torch.zeros(2, 2))


def test_tracing_skips_the_condition():
    model = Checked()
    traced = torch.fx.symbolic_trace(model)
    assert model.traced
    assert model.looked_at.tolist() == [0.0]
    assert not is_fx_tracing()
    assert traced(torch.zeros(2, 2)).tolist() == [[1, 1], [1, 1]]


@pytest.mark.skipif(provider() != "bundled", reason="the bundled runtime's promise")
def test_a_condition_as_text_is_an_error():
    with pytest.raises(TypeError, match="text"):
        assert_fx_safe("1 == 2", "message")
