"""The operator (compiled where the extension is), the reference and a plain loop agree."""

import pytest
import torch
import torchvision
from torch import Tensor

from d2ext.ops import batched_nms_rotated, nms_rotated, reference
from tests.helpers.op_export import check_export
from tests.helpers.rotated_boxes import shapely_iou, some_boxes


def some_scores(count: int, device="cpu") -> Tensor:
    generator = torch.Generator().manual_seed(5)
    return torch.rand(count, generator=generator).to(device)


def some_groups(count: int, groups: int, device="cpu") -> Tensor:
    generator = torch.Generator().manual_seed(6)
    return torch.randint(-2, groups - 2, (count,), generator=generator).to(device)


def plain_loop(ious: Tensor, scores: Tensor, groups: Tensor, threshold: float) -> list[int]:
    """Return the indices that greedy NMS keeps, from an (N, N) table of IoUs."""
    kept: list[int] = []
    for i in sorted(range(len(scores)), key=lambda i: -float(scores[i])):
        if all(ious[i, j] <= threshold or groups[i] != groups[j] for j in kept):
            kept.append(i)
    return kept


@pytest.mark.parametrize("threshold", [0.0, 0.1, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("groups", [1, 3])
def test_kept_boxes_equal_those_of_greedy_nms_with_shapely(groups, threshold, device):
    boxes, scores, idxs = some_boxes(120), some_scores(120), some_groups(120, groups)
    expected = plain_loop(shapely_iou(boxes, boxes), scores, idxs, threshold)
    assert 0 < len(expected) <= 120
    given = boxes.to(device), scores.to(device), idxs.to(device)
    assert batched_nms_rotated(*given, threshold).tolist() == expected
    assert reference.nms_rotated(*given, threshold).tolist() == expected
    if groups == 1:
        assert nms_rotated(*given[:2], threshold).tolist() == expected


@pytest.mark.parametrize("span", [60.0, 4000.0])  # all boxes meet, few do
@pytest.mark.parametrize("count", [0, 1, 2, 257, 400])
def test_many_boxes_equal_the_reference(count, span, device):
    boxes = some_boxes(count, dtype=torch.float32, device=device, span=span)
    scores, idxs = some_scores(count, device), some_groups(count, 4, device)
    own = nms_rotated(boxes, scores, 0.3)
    assert own.dtype == torch.int64
    assert torch.equal(own, reference.nms_rotated(boxes, scores, None, 0.3))
    own = batched_nms_rotated(boxes, scores, idxs, 0.3)
    assert torch.equal(own, reference.nms_rotated(boxes, scores, idxs, 0.3))


def test_upright_boxes_equal_torchvision_nms(device):
    boxes, scores = some_boxes(500, device=device), some_scores(500, device)
    boxes[:, 4] = 0
    centres, halves = boxes[:, :2], boxes[:, 2:4] / 2
    corners = torch.cat((centres - halves, centres + halves), dim=1)
    expected = torchvision.ops.nms(corners, scores.double(), 0.4)
    assert torch.equal(nms_rotated(boxes, scores, 0.4), expected)


def test_a_chain_of_overlaps_worked_out_by_hand(device):
    # Each overlaps the next by 3/5; the middle one falls to the first, and so the third stays.
    boxes = torch.tensor([[0.0, 0, 4, 2, 0], [1, 0, 4, 2, 180], [2, 0, 2, 4, 90]], device=device)
    scores = torch.tensor([0.7, 0.8, 0.9], device=device)
    assert nms_rotated(boxes, scores, 0.5).tolist() == [2, 0]
    assert nms_rotated(boxes, scores, 0.61).tolist() == [2, 1, 0]
    idxs = torch.tensor([0, 1, 0], device=device)
    assert batched_nms_rotated(boxes, scores, idxs, 0.5).tolist() == [2, 1, 0]


def test_a_box_at_the_threshold_is_kept(device):
    boxes = torch.tensor([[0.0, 0, 2, 1, 0], [0, 0, 1, 1, 0]], device=device)
    assert nms_rotated(boxes, torch.tensor([0.9, 0.8], device=device), 0.5).tolist() == [0, 1]


def test_equal_scores_keep_their_order(device):
    boxes = some_boxes(300, device=device)
    scores = (some_scores(300, device) * 3).round()
    kept = nms_rotated(boxes, scores, 0.3)
    assert torch.equal(kept, reference.nms_rotated(boxes, scores, None, 0.3))
    assert torch.equal(
        nms_rotated(boxes[:1].expand(9, 5), scores[:9] * 0, 0.3).cpu(), torch.tensor([0])
    )


def test_many_groups_cost_no_precision(device):
    boxes = some_boxes(20, dtype=torch.float32, device=device) + 1e4
    many = boxes.repeat(50, 1)
    idxs = torch.arange(50, device=device).repeat_interleave(20) * 10**12
    scores = some_scores(20, device).repeat(50)
    kept = batched_nms_rotated(many, scores, idxs, 0.3)
    one = nms_rotated(boxes, scores[:20], 0.3)
    expected = (one[:, None] + 20 * torch.arange(50, device=device)).flatten()
    assert torch.equal(kept.sort().values, expected.sort().values)


def test_degenerate_boxes_neither_suppress_nor_are_suppressed(device):
    nan, inf = float("nan"), float("inf")
    boxes = torch.tensor(
        [
            [9, 9, 4, 2, 0],
            [9, 9, nan, 2, 0],
            [nan, 9, 4, 2, 0],
            [9, 9, -4, 2, 0],
            [9, 9, 0, 0, 0],
            [inf, 9, 4, 2, 0],
            [9, 9, inf, 2, 0],
            [9, 9, 4, 2, 0.1],
        ],
        device=device,
    )
    scores = torch.linspace(1, 0, 8, device=device)
    assert nms_rotated(boxes, scores, 0.5).tolist() == list(range(7))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_types_are_computed_in_float32(dtype, device):
    boxes = some_boxes(400, dtype=dtype, device=device)
    scores = some_scores(400, device).to(dtype)
    assert torch.equal(
        nms_rotated(boxes, scores, 0.3), nms_rotated(boxes.float(), scores.float(), 0.3)
    )


def test_strided_inputs_give_the_same_result(device):
    boxes, scores = some_boxes(100, device=device), some_scores(100, device)
    idxs = some_groups(100, 2, device)
    doubled = torch.stack((scores, scores), 1)[:, 0], torch.stack((idxs, idxs), 1)[:, 0]
    own = batched_nms_rotated(boxes.mT.contiguous().mT, *doubled, 0.3)
    assert torch.equal(own, batched_nms_rotated(boxes, scores, idxs, 0.3))


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_number_of_threads_does_not_change_the_result(threads):
    boxes, scores = some_boxes(3000, dtype=torch.float32), some_scores(3000)
    usual = torch.get_num_threads()
    expected = reference.nms_rotated(boxes, scores, None, 0.1)
    torch.set_num_threads(threads)
    own = nms_rotated(boxes, scores, 0.1)
    torch.set_num_threads(usual)
    assert torch.equal(own, expected)


def test_opcheck_passes(device):
    boxes, scores = some_boxes(9, device=device), some_scores(9, device)
    for groups in (None, some_groups(9, 2, device)):
        torch.library.opcheck(torch.ops.d2ext.nms_rotated.default, (boxes, scores, groups, 0.3))


def test_torch_compile_has_no_graph_break():
    boxes, scores = some_boxes(30, dtype=torch.float32), some_scores(30)

    def best(boxes: Tensor, scores: Tensor) -> Tensor:
        return boxes[nms_rotated(boxes, scores, 0.3)] * 2

    compiled = torch.compile(best, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(boxes, scores), best(boxes, scores))


def test_export_as_program_and_onnx_gives_equal_output():
    boxes, scores, idxs = some_boxes(50, dtype=torch.float32), some_scores(50), some_groups(50, 2)
    check_export(lambda *given: batched_nms_rotated(*given, 0.3), boxes, scores, idxs)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"boxes": torch.zeros(3, 4)}, r"boxes must be \(N, 5\)"),
        ({"boxes": torch.zeros(3, 5).long()}, "boxes must be floats"),
        ({"scores": torch.zeros(2)}, r"scores must be \(3,\) on cpu, got \(2,\)"),
        ({"scores": torch.zeros(3, device="meta")}, "on meta"),
        ({"scores": torch.zeros(3).long()}, "scores must be floats"),
        ({"idxs": torch.zeros(2).long()}, "idxs must be 3 integers"),
        ({"idxs": torch.zeros(3)}, "idxs must be 3 integers"),
        ({"iou_threshold": -0.1}, "0 or more, got -0.1"),
        ({"iou_threshold": float("nan")}, "0 or more, got nan"),
    ],
)
def test_invalid_arguments_raise_value_error(change, match):
    good = {"boxes": torch.zeros(3, 5), "scores": torch.zeros(3), "idxs": torch.zeros(3).long()}
    given = {**good, "iou_threshold": 0.5, **change}
    with pytest.raises(ValueError, match=match):
        batched_nms_rotated(**given)
