"""torch.export for images of any size, those of one cell per feature map among them."""

import pytest
import torch
import torch.nn.functional as F

from d2ext.exporters import exporter_for
from d2ext.exporters.check import compare
from d2ext.exporters.exported_module import build_exported_module
from d2ext.exporters.torch_export import OperatorSubstitution, export_program
from tests.helpers.detectors import some_images, tiny_detector


@pytest.mark.parametrize("size", [(9, 13), (1, 13), (10, 1), (5, 7)])
def test_interpolation_at_aligned_corners_is_pytorchs(size):
    maps = torch.randn(2, 3, 5, 7)
    expected = F.interpolate(maps, size, mode="bilinear", align_corners=True)
    with OperatorSubstitution():
        given = F.interpolate(maps, size, mode="bilinear", align_corners=True)
    torch.testing.assert_close(given, expected)


@pytest.mark.slow
def test_dyhead_is_exported_for_any_size():
    exporter = exporter_for(tiny_detector("DyHead")[0])
    module = build_exported_module(exporter, "inside", "inside", for_onnx=False)
    module(some_images(2, 256, 320))
    program = export_program(module.eval(), some_images(2, 256, 320), free_size=True).module()
    for size in ((1, 256, 256), (3, 301, 288), (1, 30, 150)):
        (difference,) = compare(program, module, [some_images(*size)], 1.0)
        assert not difference.fault
        assert ": 0 detections" not in difference.text
