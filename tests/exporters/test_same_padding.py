"""TensorFlow's "SAME" padding in exports: timm's values, and sizes that stay short expressions."""

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from timm.layers import Conv2dSame, get_same_padding
from torch import Tensor, nn

from d2ext.errors import ConfigError
from d2ext.exporters.same_padding import same_padding, short_same_padding
from d2ext.exporters.torch_export import export_program


@pytest.mark.parametrize("kernel", [1, 2, 3, 5, 7])
@pytest.mark.parametrize("stride", [1, 2, 3, 4])
@pytest.mark.parametrize("dilation", [1, 2])
def test_padding_is_timms(kernel, stride, dilation):
    for size in range(1, 40):
        expected = get_same_padding(size, kernel, stride, dilation)
        assert same_padding(size, kernel, stride, dilation) == expected
        assert int(same_padding(torch.tensor(size), kernel, stride, dilation)) == expected


class Padded(nn.Module):
    """Convolutions of stride 2 on images that are padded to multiples of 32."""

    def __init__(self) -> None:
        super().__init__()
        convs = [Conv2dSame(1, 1, 3, stride=2) for _ in range(3)]
        self.convs = nn.Sequential(*convs)

    def forward(self, images: Tensor) -> Tensor:
        right, bottom = ((side + 31) // 32 * 32 - side for side in images.shape[:1:-1])
        return self.convs(F.pad(images, (0, right, 0, bottom)))


def test_sizes_behind_strides_are_short_expressions_in_an_exported_program():
    module, images = Padded().eval(), torch.rand(1, 1, 70, 90)
    sides = {2: torch.export.Dim("height", min=33), 3: torch.export.Dim("width", min=33)}
    with short_same_padding():
        program = torch.export.export(module, (images,), dynamic_shapes=(sides,))
    (output,) = program.graph_module.graph.output_node().args[0]
    assert all(len(str(side)) < 30 for side in output.meta["val"].shape[2:])
    other = torch.rand(1, 1, 33, 130)
    torch.testing.assert_close(program.module()(other), module(other))


def test_models_of_any_size_that_nothing_pads_are_refused_at_once():
    model = nn.Sequential(Conv2dSame(3, 1, 3, stride=2))
    exporter = SimpleNamespace(pads=False, multiple=1, model=model)
    module = SimpleNamespace(exporter=exporter)
    with pytest.raises(ConfigError, match="Give a size, --size HEIGHT WIDTH"):
        export_program(module, torch.rand(2, 3, 32, 32), free_size=True)
