import pytest
import torch
from torch import nn

from d2ext.layers import DepthwiseConv2d, FastFrozenNorm, frozen_norm
from d2ext.ops import is_compiled
from tests.layers.test_depthwise_conv import Calls

compiled = pytest.mark.skipif(
    not is_compiled("channel_affine"), reason="the operator is not compiled"
)


def norm_of() -> FastFrozenNorm:
    torch.manual_seed(0)
    norm = FastFrozenNorm(5)
    for tensor in (*norm.parameters(), norm.running_mean, norm.running_var):
        nn.init.uniform_(tensor, 0.5, 2.0)
    return norm.eval().requires_grad_(False)


def maps() -> torch.Tensor:
    return torch.randn(2, 5, 4, 3).contiguous(memory_format=torch.channels_last)


def takes_operator(norm: nn.Module, image: torch.Tensor) -> bool:
    with Calls() as calls:
        norm(image)
    return "d2ext::channel_affine" in calls.names


def test_a_frozen_norm_equals_batch_norm():
    norm, image = norm_of(), maps()
    plain = nn.BatchNorm2d(5).eval().requires_grad_(False)
    plain.load_state_dict(norm.state_dict())
    images = [image.clone().requires_grad_() for _ in range(2)]
    outputs = [layer(given) for layer, given in zip((norm, plain), images, strict=True)]
    torch.testing.assert_close(*outputs)
    for output in outputs:
        output.square().sum().backward()
    torch.testing.assert_close(images[0].grad, images[1].grad)


@compiled
def test_the_operator_runs_only_for_frozen_norms_in_training():
    norm, image = norm_of(), maps()
    assert takes_operator(norm, image)
    assert takes_operator(norm, image.bfloat16())
    assert not takes_operator(norm.double(), image.double())
    assert not takes_operator(norm.float(), image.contiguous())
    with torch.no_grad():
        assert not takes_operator(norm, image)
    norm.weight.requires_grad_(True)
    assert not takes_operator(norm, image)
    assert not takes_operator(norm.requires_grad_(False).train(), image)


def test_without_the_compiled_operator_pytorch_runs(monkeypatch):
    monkeypatch.setattr(frozen_norm, "is_compiled", lambda _: False)
    assert not takes_operator(norm_of(), maps())


def test_torch_compile_has_no_graph_break():
    model = nn.Sequential(DepthwiseConv2d(5, 5, 3, padding=1, groups=5), norm_of())
    compiled_model = torch.compile(model, fullgraph=True, backend="aot_eager")
    given = maps()
    torch.testing.assert_close(compiled_model(given), model(given))


def test_traces_and_programs_hold_pytorchs_batch_norm():
    norm, image = norm_of(), maps()
    traced = torch.jit.trace(norm, image, check_trace=False)
    assert "channel_affine" not in str(traced.inlined_graph)
    graph = torch.export.export(norm, (image,)).graph
    assert not [node for node in graph.nodes if "d2ext" in str(node.target)]
