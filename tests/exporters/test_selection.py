import onnxruntime
import pytest
import torch
from torchvision.ops import batched_nms

from d2ext.exporters.onnx_file import save_onnx
from d2ext.exporters.selection import batched_nms_mask, padded_topk, topk_candidates
from d2ext.modeling.dense_heads import LevelPredictions


def some_candidates(batch, count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    corners = 60 * torch.rand(batch, count, 2, generator=generator) - 10
    sizes = 5 + 30 * torch.rand(batch, count, 2, generator=generator)
    scores = torch.rand(batch, count, generator=generator)
    classes = torch.randint(0, 4, (batch, count), generator=generator)
    return torch.cat((corners, corners + sizes), dim=2), scores.clamp(min=0.2) - 0.2, classes


@pytest.mark.parametrize("count", [1, 60])
def test_the_nms_mask_equals_nms_per_image_and_class(count):
    boxes, scores, classes = some_candidates(3, count)
    keep = batched_nms_mask(boxes, scores, classes, 4, 0.5)
    assert keep.shape == (3, count)
    for image in range(3):
        own = (scores[image] > 0).nonzero()[:, 0]
        kept = batched_nms(boxes[image][own], scores[image][own], classes[image][own], 0.5)
        assert keep[image].nonzero()[:, 0].tolist() == sorted(own[kept].tolist())


def test_onnx_keeps_the_same(tmp_path):
    class Module(torch.nn.Module):
        def forward(self, images, scores, classes):
            return (torch.ops.d2ext_export.batched_nms_mask(images, scores, classes, 4, 0.5),)

    batch = torch.export.Dim("batch")
    inputs = some_candidates(3, 60)
    program = torch.export.export(Module(), inputs, dynamic_shapes=({0: batch},) * 3)
    save_onnx(program, ["keep"], {}, tmp_path / "keep.onnx", ["images", "scores", "classes"])
    session = onnxruntime.InferenceSession(tmp_path / "keep.onnx")
    for count in (1, 5):
        boxes, scores, classes = some_candidates(count, 60, seed=count)
        feeds = {"images": boxes.numpy(), "scores": scores.numpy(), "classes": classes.numpy()}
        (kept,) = session.run(None, feeds)
        assert kept.tolist() == batched_nms_mask(boxes, scores, classes, 4, 0.5).tolist()
        assert 0 < kept.sum() < kept.size


def test_the_best_of_each_level_carry_their_class():
    boxes = torch.arange(8.0).view(1, 2, 4)
    scores = torch.tensor([[[0.1, 0.9, 0.0], [0.8, 0.2, 0.3]]])
    levels = LevelPredictions([boxes, boxes], [scores, scores])
    found, best, classes = topk_candidates(levels, 2)
    torch.testing.assert_close(best, torch.tensor([[0.9, 0.8, 0.9, 0.8]]))
    assert classes.tolist() == [[1, 0, 1, 0]]
    assert found[0, :2].tolist() == boxes[0].tolist()


def test_too_few_scores_are_filled_with_zeros():
    best, index = padded_topk(torch.tensor([[0.5, 0.7]]), 4)
    torch.testing.assert_close(best, torch.tensor([[0.7, 0.5, 0.0, 0.0]]))
    assert index[0, :2].tolist() == [1, 0]
    assert index.max() < 2
