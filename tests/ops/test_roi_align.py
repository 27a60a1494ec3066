"""The operators (compiled where the extension is), the reference and independent peers agree."""

import math
from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor

from d2ext.ops import reference, roi_align, roi_align_rotated
from tests.helpers.op_export import check_export
from tests.helpers.op_inputs import FLOATS, assert_rounds_to, unaligned


class Case(NamedTuple):
    size: tuple[int, int] = (3, 4)
    sampling_ratio: int = 2
    scale: float = 0.5
    count: int = 30
    maps: tuple[int, int, int, int] = (2, 3, 9, 13)

    @property
    def options(self) -> tuple:
        return self.size, self.scale, self.sampling_ratio


CASES = [
    Case(),
    Case(sampling_ratio=0),
    Case(sampling_ratio=-1, size=(1, 1), scale=1.0),
    Case(sampling_ratio=1, size=(14, 14)),
    Case(sampling_ratio=3, maps=(1, 70, 20, 17)),  # vectors of channels and a rest
    Case(sampling_ratio=7, maps=(2, 33, 9, 8), count=6),  # more samples than a warp has lanes
    Case(sampling_ratio=0, maps=(4, 2, 1, 1)),
    Case(sampling_ratio=0, maps=(1, 2, 1, 40)),
    Case(count=0),
    Case(count=0, maps=(0, 2, 4, 4)),
    Case(maps=(2, 0, 4, 4)),
]


def maps_of(case: Case, device="cpu", dtype=torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    made = torch.rand(case.maps, generator=generator, dtype=torch.float64) - 0.5
    return made.to(device, dtype).requires_grad_()


def boxes_of(case: Case, device="cpu") -> Tensor:
    """Return (K, 6) image index and XYWHA; some reach beyond the map, are far outside or empty."""
    generator = torch.Generator().manual_seed(2)
    batch, _, height, width = case.maps

    def uniform(columns: int) -> Tensor:
        return torch.rand(case.count, columns, generator=generator, dtype=torch.float64)

    image = torch.randint(max(batch, 1), (case.count, 1), generator=generator)
    whole = torch.tensor([width, height]) / case.scale
    boxes = torch.cat(
        (image, (1.4 * uniform(2) - 0.2) * whole, uniform(2) * whole, 720 * uniform(1) - 360), dim=1
    )
    boxes[::7, 1:3] += 1000
    boxes[3::7, 3] = 0
    return boxes.to(device)


def upright(boxes: Tensor) -> Tensor:
    """Convert to (K, 5) image index and XYXY, dropping the angle."""
    image, centers, sides = boxes[:, :1], boxes[:, 1:3], boxes[:, 3:5]
    return torch.cat((image, centers - sides / 2, centers + sides / 2), dim=1)


def with_gradient(function, maps: Tensor, *arguments) -> tuple[Tensor, Tensor]:
    output = function(maps, *arguments)
    seed = torch.linspace(-1, 1, output.numel(), device=output.device, dtype=output.dtype)
    return output, torch.autograd.grad(output, maps, seed.view(output.shape))[0]


@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_upright_output_and_gradient_equal_torchvisions(case, aligned, device):
    maps, rois = maps_of(case, device), upright(boxes_of(case, device))
    expected = with_gradient(torchvision.ops.roi_align, maps, rois, *case.options, aligned)
    found = with_gradient(roi_align, maps, rois, *case.options, aligned)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("case", CASES)
def test_rotated_output_and_gradient_equal_detectron2s(case, device):
    pytest.importorskip("detectron2._C", reason="the official detectron2 is not installed")
    from detectron2.layers.roi_align_rotated import roi_align_rotated as detectron2s

    maps, boxes = maps_of(case, device), boxes_of(case, device)
    if maps.numel() == 0 or case.count == 0:
        pytest.skip("Detectron2 refuses empty tensors")
    expected = with_gradient(detectron2s, maps, boxes, *case.options)
    found = with_gradient(roi_align_rotated, maps, boxes, *case.options)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("kind", ["upright", "not aligned", "rotated"])
def test_operator_equals_reference(case, kind, device):
    maps, rois = maps_of(case, device), boxes_of(case, device)
    function, name, aligned = roi_align_rotated, "roi_align_rotated", ()
    if kind != "rotated":
        rois, function, name, aligned = upright(rois), roi_align, "roi_align", (kind == "upright",)
    output, grad = with_gradient(function, maps, rois, *case.options, *aligned)
    scale, ratio = case.scale, case.sampling_ratio
    own = reference.roi_align(maps.detach(), rois, scale, *case.size, ratio, *aligned)
    torch.testing.assert_close(own, output.detach())
    seed = torch.linspace(-1, 1, output.numel(), device=device, dtype=output.dtype)
    size = maps.shape[0], *maps.shape[2:]
    backward = getattr(reference, f"{name}_backward")
    own = backward(seed.view(output.shape), rois, scale, ratio, *aligned, *size)
    torch.testing.assert_close(own, grad)


@pytest.mark.parametrize("angle", [0.0, -90.0, 30.0, 77.0, 200.0])
def test_bins_inside_the_map_are_means_of_grid_samples(angle, device):
    maps = maps_of(Case(maps=(1, 3, 40, 50)), device)
    center_x, center_y, width, height, ratio = 25.3, 20.6, 15.0, 11.0, 2
    box = torch.tensor([[0, center_x, center_y, width, height, angle]], device=device)
    found = roi_align_rotated(maps, box.double(), (4, 5), 1.0, ratio)
    along_x = (torch.arange(5 * ratio) + 0.5) / (5 * ratio) - 0.5
    along_y = (torch.arange(4 * ratio) + 0.5) / (4 * ratio) - 0.5
    y, x = torch.meshgrid(along_y.double() * height, along_x.double() * width, indexing="ij")
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    # Counter-clockwise on a screen, where y points down.
    seen_x, seen_y = center_x + cos * x + sin * y, center_y - sin * x + cos * y
    grid = torch.stack((2 * seen_x / 50 - 1, 2 * seen_y / 40 - 1), -1)[None].to(device)
    samples = F.grid_sample(maps, grid, align_corners=False)
    torch.testing.assert_close(found, F.avg_pool2d(samples, ratio), rtol=1e-5, atol=1e-5)


def test_a_rotated_region_at_angle_0_equals_an_upright_one(device):
    maps, boxes = maps_of(Case(), device), boxes_of(Case(), device)
    boxes[:, 5] = 0
    expected = roi_align(maps, upright(boxes), (3, 4), 0.5, 2, aligned=True)
    torch.testing.assert_close(roi_align_rotated(maps, boxes, (3, 4), 0.5, 2), expected)


def test_a_box_of_four_pixels_worked_out_by_hand():
    ramp = torch.arange(16.0).view(1, 1, 4, 4)
    box = torch.tensor([[0.0, 1.0, 1.0, 3.0, 3.0]])
    # Samples at the centres of the pixels 5, 6, 9 and 10.
    output = roi_align(ramp, box, 2, 1.0, 1, aligned=True)
    torch.testing.assert_close(output[0, 0], torch.tensor([[5.0, 6.0], [9.0, 10.0]]))
    turned = torch.tensor([[0.0, 2.0, 2.0, 2.0, 2.0, 90.0]])
    output = roi_align_rotated(ramp, turned, 2, 1.0, 1)  # up is where left was
    torch.testing.assert_close(output[0, 0], torch.tensor([[9.0, 5.0], [10.0, 6.0]]))


@pytest.mark.parametrize("sampling_ratio", [0, 2])
@pytest.mark.parametrize("rotated", [False, True])
def test_opcheck_and_gradcheck_pass(rotated, sampling_ratio, device):
    case = Case(maps=(2, 2, 4, 5), count=5, size=(2, 3))
    maps, rois = maps_of(case, device), boxes_of(case, device)
    function, operator, aligned = roi_align_rotated, torch.ops.d2ext.roi_align_rotated, ()
    backward = torch.ops.d2ext.roi_align_rotated_backward
    if not rotated:
        rois, aligned, function = upright(rois), (True,), roi_align
        operator, backward = torch.ops.d2ext.roi_align, torch.ops.d2ext.roi_align_backward
    options = case.scale, *case.size, sampling_ratio, *aligned
    torch.library.opcheck(operator.default, (maps, rois, *options))
    grad = torch.rand(5, 2, 2, 3, dtype=torch.float64, device=device, requires_grad=True)
    options = case.scale, sampling_ratio, *aligned, 2, 4, 5
    torch.library.opcheck(backward.default, (grad, rois, *options))
    arguments = (maps, rois, case.size, case.scale, sampling_ratio, *aligned)
    assert torch.autograd.gradcheck(function, arguments, nondet_tol=1e-12)
    assert torch.autograd.gradgradcheck(function, arguments, nondet_tol=1e-12)


@pytest.mark.parametrize("float_boxes", [False, True])
@pytest.mark.parametrize("dtype", FLOATS)
def test_every_dtype_differs_from_the_reference_by_rounding(dtype, float_boxes, device):
    case = Case(maps=(2, 40, 9, 13))
    maps = maps_of(case, device, dtype)
    boxes = boxes_of(case, device).to(torch.float32 if float_boxes else dtype)
    exact = maps.detach().double().requires_grad_()

    def plain(maps: Tensor, rois: Tensor, size: tuple[int, int], *options: float) -> Tensor:
        return reference.roi_align_by_gathers(maps, rois, options[0], *size, options[1])

    expected = with_gradient(plain, exact, boxes.double(), *case.options)
    for own, wide in zip(
        with_gradient(roi_align_rotated, maps, boxes, *case.options), expected, strict=True
    ):
        assert own.dtype == dtype
        assert_rounds_to(own, wide, dtype, 2 if dtype.itemsize == 2 else 50)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_memory_format_does_not_change_the_result(dtype, device):
    case = Case(maps=(2, 40, 9, 13))
    maps, boxes = maps_of(case, device, dtype), boxes_of(case, device)
    expected = with_gradient(roi_align_rotated, maps, boxes, *case.options)
    plain = maps.detach()
    for strided in (
        plain.contiguous(memory_format=torch.channels_last),
        unaligned(plain.contiguous(memory_format=torch.channels_last)),
        plain.mT.contiguous().mT,
        plain.repeat_interleave(2, dim=3)[..., ::2],
    ):
        found = with_gradient(
            roi_align_rotated, strided.requires_grad_(), boxes.mT.contiguous().mT, *case.options
        )
        torch.testing.assert_close(found, expected)
    output = roi_align_rotated(maps, boxes, *case.options)
    seed = torch.ones_like(output)
    (dense,) = torch.autograd.grad(output, maps, seed, retain_graph=True)
    (strided,) = torch.autograd.grad(output, maps, seed[:, :, :1, :1].expand_as(seed))
    torch.testing.assert_close(strided, dense)


def test_regions_with_many_samples_are_computed_in_chunks(device):
    case = Case(sampling_ratio=60, size=(5, 5), count=3, maps=(1, 2, 30, 40))
    maps, rois = maps_of(case, device), upright(boxes_of(case, device))
    expected = with_gradient(torchvision.ops.roi_align, maps, rois, *case.options)
    torch.testing.assert_close(with_gradient(roi_align, maps, rois, *case.options), expected)


def test_number_of_threads_does_not_change_a_bit():
    case = Case(maps=(2, 100, 20, 20), count=50)
    maps, boxes = maps_of(case, dtype=torch.float32), boxes_of(case).float()
    usual, found = torch.get_num_threads(), []
    for threads in (1, 2, 5):
        torch.set_num_threads(threads)
        found.append(with_gradient(roi_align_rotated, maps, boxes, *case.options))
    torch.set_num_threads(usual)
    for output, grad in found[1:]:
        assert torch.equal(output, found[0][0])
        assert torch.equal(grad, found[0][1])


def test_deterministic_mode_refuses_the_cuda_gradient(device):
    if device.type != "cuda":
        pytest.skip("on the CPU the order is fixed")
    maps, boxes = maps_of(Case(), device), boxes_of(Case(), device)
    output = roi_align_rotated(maps, boxes, 2).sum()
    torch.use_deterministic_algorithms(True)
    try:
        with pytest.raises(RuntimeError, match="no fixed order"):
            output.backward()
    finally:
        torch.use_deterministic_algorithms(False)


def test_a_nan_pixel_affects_only_bins_that_read_it(device):
    maps = torch.zeros(1, 1, 4, 4, device=device)
    maps[0, 0, 0, 0] = float("nan")
    boxes = torch.tensor([[0.0, 1, 1, 3, 3], [0.0, 0, 0, 2, 2]], device=device)
    output = roi_align(maps, boxes, 2, 1.0, 1, aligned=True)
    assert not output[0].isnan().any()
    assert output[1].isnan().sum() == 1


def test_torch_compile_has_no_graph_break(device):
    compiled = torch.compile(roi_align_rotated, backend="aot_eager", fullgraph=True)
    maps, boxes = maps_of(Case(), device), boxes_of(Case(), device)
    expected = with_gradient(roi_align_rotated, maps, boxes, *Case().options)
    torch.testing.assert_close(with_gradient(compiled, maps, boxes, *Case().options), expected)


@pytest.mark.parametrize("rotated", [False, True])
def test_export_as_program_and_onnx_gives_equal_output(rotated):
    maps = maps_of(Case(), dtype=torch.float32)
    boxes = boxes_of(Case()).float()

    def function(maps: Tensor, rois: Tensor) -> Tensor:
        return (roi_align_rotated if rotated else roi_align)(maps, rois, (3, 4), 0.5, 2)

    check_export(function, maps, boxes if rotated else upright(boxes), rtol=1e-4, atol=1e-5)


def test_an_adaptive_sampling_ratio_cannot_be_exported():
    with pytest.raises(ValueError, match="can't be exported; give a number"):
        reference.roi_align_by_gathers(maps_of(Case()), boxes_of(Case()), 0.5, 3, 4, 0)


@pytest.mark.parametrize("image", [-1, 2])
def test_an_image_index_outside_the_batch_raises(image):
    boxes = torch.tensor([[image, 1.0, 1.0, 2.0, 2.0]])
    with pytest.raises((RuntimeError, IndexError)):
        roi_align(torch.zeros(2, 1, 4, 4), boxes, 2)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"input": torch.zeros(3, 4, 4)}, r"B, C, H, W"),
        ({"rois": torch.zeros(2, 5)}, r"\(K, 6\)"),
        ({"input": torch.zeros(1, 3, 4, 4).long()}, "expected floats"),
        ({"rois": torch.zeros(2, 6).long()}, "expected floats"),
        ({"rois": torch.zeros(2, 6, device="meta")}, "on meta"),
        ({"input": torch.zeros(1, 3, 0, 4)}, "from 1 to"),
        ({"output_size": (0, 2)}, "at least 1"),
    ],
)
def test_invalid_arguments_raise_value_error(change, match):
    good = {"input": torch.zeros(1, 3, 4, 4), "rois": torch.zeros(2, 6), "output_size": 2}
    with pytest.raises(ValueError, match=match):
        roi_align_rotated(**{**good, **change})
