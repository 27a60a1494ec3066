"""Results of masks that are resized in chunks, against all masks at once."""

import pytest
import torch
import torch.nn.functional as F

from d2ext.projects.maskformer.modeling import inference
from d2ext.projects.maskformer.modeling.inference import FoundMasks

SIZE, TOPK = (50, 90), 30


@pytest.fixture(params=[1, 10_000, 2**23])
def found(request, monkeypatch) -> FoundMasks:
    """Predictions of 20 queries and 5 classes; one query, three queries, all queries per chunk."""
    monkeypatch.setattr(inference, "CHUNK_PIXELS", request.param)
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(20, 6, generator=generator)
    masks = 4 * torch.randn(1, 20, 4, 6, generator=generator)
    masks = F.interpolate(masks, (16, 24), mode="bicubic")
    return FoundMasks(logits, masks[0], (64, 96), (60, 80))


def plain_masks(found: FoundMasks) -> torch.Tensor:
    """Resize all masks together."""
    masks = F.interpolate(found.masks[None], (64, 96), mode="bilinear")[:, :, :60, :80]
    return F.interpolate(masks, SIZE, mode="bilinear")[0]


def plain_instances(found: FoundMasks) -> tuple[torch.Tensor, ...]:
    scores, index = found.logits.softmax(-1)[:, :-1].flatten().topk(TOPK)
    masks = plain_masks(found)[index // 5]
    inside = masks > 0
    total = (masks.sigmoid().flatten(1) * inside.flatten(1)).sum(1)
    return scores, index, inside, scores * (total / (inside.flatten(1).sum(1) + 1e-6))


def test_instances_are_equal_bit_by_bit(found):
    _class_scores, index, masks, scores = plain_instances(found)
    own = inference.instances(found, SIZE, TOPK, score_thresh=0.0)
    assert torch.equal(own.query * 5 + own.pred_classes, index)
    assert torch.equal(own.pred_masks, masks)
    assert torch.equal(own.scores, scores)


def test_instances_below_the_threshold_are_left_out_and_others_equal(found):
    class_scores, _index, masks, scores = plain_instances(found)
    kept = class_scores >= 0.2
    own = inference.instances(found, SIZE, TOPK, score_thresh=0.2)
    assert 0 < len(own) == kept.sum() < TOPK
    assert torch.equal(own.pred_masks, masks[kept])
    assert torch.equal(own.scores, scores[kept])


def test_instances_have_the_boxes_of_their_masks_and_only_classes_asked_for(found):
    own = inference.instances(found, SIZE, TOPK, 0.0, classes={1, 4})
    assert set(own.pred_classes.tolist()) == {1, 4}
    for mask, box in zip(own.pred_masks, own.pred_boxes.tensor, strict=True):
        y, x = mask.nonzero().unbind(1)
        assert box.tolist() == [x.min(), y.min(), x.max() + 1, y.max() + 1]


@pytest.mark.parametrize("inside_only", [False, True])
def test_panoptic_segments_are_equal_bit_by_bit(found, inside_only):
    thresholds, things = (0.3, 0.2), {0, 1}
    own, segments = inference.panoptic(found, SIZE, *thresholds, things, inside_only)
    expected, expected_segments = plain_panoptic(found, *thresholds, things, inside_only)
    assert torch.equal(own, expected)
    assert segments == expected_segments
    assert len(segments) > 2


def plain_panoptic(found, object_thresh, overlap_thresh, things, inside_only):
    scores, labels = found.logits.softmax(-1).max(-1)
    chosen = [q for q in range(20) if labels[q] < 5 and scores[q] > object_thresh]
    masks = plain_masks(found)[chosen].sigmoid()
    winner = (masks * scores[chosen][:, None, None]).argmax(0)
    image, segments, stuff = torch.zeros(SIZE, dtype=torch.int32), [], {}
    for index, query in enumerate(chosen):
        label, inside = int(labels[query]), masks[index] >= 0.5
        won = winner == index
        part = won & inside if inside_only else won
        if not part.any() or won.sum() / inside.sum() < overlap_thresh:
            continue
        if label not in stuff:
            segments.append(
                {"id": len(segments) + 1, "category_id": label, "isthing": label in things}
            )
            if label not in things:
                stuff[label] = len(segments)
        image[part] = stuff.get(label, len(segments))
    return image, segments


def test_no_query_above_the_threshold_gives_no_segment(found):
    image, segments = inference.panoptic(found, SIZE, 1.0, 0.0, {0}, inside_only=True)
    assert segments == []
    assert torch.equal(image, torch.zeros(SIZE, dtype=torch.int32))


@pytest.mark.parametrize("resize_first", [False, True])
def test_semantic_scores_are_those_of_all_masks_at_once(found, resize_first):
    classes = found.logits.softmax(-1)[:, :-1]
    if resize_first:
        expected = torch.einsum("qk,qhw->khw", classes, plain_masks(found).sigmoid())
    else:
        masks = F.interpolate(found.masks[None], (64, 96), mode="bilinear")[0].sigmoid()
        scores = torch.einsum("qk,qhw->khw", classes, masks)[None, :, :60, :80]
        expected = F.interpolate(scores, SIZE, mode="bilinear")[0]
    own = inference.semantic_scores(found, SIZE, resize_first)
    torch.testing.assert_close(own, expected, rtol=1e-5, atol=1e-5)


def test_classes_of_instances_count_things_alone():
    classes = torch.tensor([7, 2, 4, 2])
    assert inference.thing_classes(classes, {4, 7, 2}).tolist() == [2, 0, 1, 0]
