"""torchvision's RetinaNet and FCOS: the same boxes, scores and losses from the same state dict."""

from functools import lru_cache

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import detection

from d2ext.checkpoint.conversion import convert
from detectron2.data import MetadataCatalog
from detectron2.structures import Instances
from tests.helpers.torchvision_detectors import (
    check_detections,
    detections,
    images,
    losses,
    ours,
    their_losses,
    theirs,
    truth,
)

CLASSES = 3
THRESH = 0.6
# By config: the factor that spreads the logits, and where the running mean of positives starts.
SPREAD = {"retinanet_r50_fpn": 8.0, "retinanet_r50_fpn_v2": 1.5, "fcos_r50_fpn": 3.0}
MODELS = {"retinanet_r50_fpn": 100, "retinanet_r50_fpn_v2": 100, "fcos_r50_fpn": 300}


@lru_cache(maxsize=3)
def pair(config: str) -> tuple[nn.Module, nn.Module]:
    create = getattr(detection, config.replace("r50", "resnet50"))
    origin = theirs(create, CLASSES + 1, score_thresh=THRESH)
    logits = origin.head.classification_head.cls_logits
    with torch.no_grad():
        if "fcos" in config:
            origin.head.regression_head.bbox_reg.bias += 2  # sides of two strides
        logits.weight *= SPREAD[config]
        # Class 0 is no object: trained weights never predict it.
        logits.bias.view(-1, CLASSES + 1)[:, 0] = -100
    section = "MODEL.FCOS" if "fcos" in config else "MODEL.RETINANET"
    changes = {"NUM_CLASSES": CLASSES, "SCORE_THRESH_TEST": THRESH}
    pairs = [word for key, value in changes.items() for word in (f"{section}.{key}", value)]
    return origin, ours(config, origin, *pairs)


@pytest.mark.slow
@pytest.mark.parametrize("config", MODELS)
def test_boxes_are_torchvisions(config: str) -> None:
    origin, model = pair(config)
    with torch.no_grad():
        wanted = origin.eval()([one / 255 for one in images()])
    for theirs_, found in zip(wanted, detections(model), strict=True):
        assert len(theirs_["boxes"]) > 20
        assert len(theirs_["labels"].unique()) > 1
        check_detections(found, theirs_)


@pytest.mark.slow
@pytest.mark.parametrize("config", MODELS)
def test_losses_are_torchvisions_before_they_are_divided(
    config: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    origin, model = pair(config)
    targets: list[Instances] = truth(CLASSES)[:1]
    labels: list[Tensor] = []
    assign = model.label_anchors

    def recorded(*arguments: object) -> tuple:
        found = assign(*arguments)
        labels.extend(found[0])
        return found

    monkeypatch.setattr(model, "label_anchors", recorded)
    found, wanted = losses(model, targets), their_losses(origin, targets)
    positive = int(((labels[0] >= 0) & (labels[0] < CLASSES)).sum())
    assert positive > 3
    # Here a running mean of the positives that starts at `MODELS[config]`; there their number.
    normalizer = 0.9 * MODELS[config] + 0.1 * positive
    assert len(found) == len(wanted)
    for mine, value in zip(found.values(), wanted.values(), strict=True):
        torch.testing.assert_close(mine * normalizer, value * positive, rtol=2e-3, atol=1e-3)


def coco(anchors: int) -> dict[str, Tensor]:
    """Return the predictors of 91 classes; each row's value is its class plus 1000 x anchor."""
    rows = (torch.arange(91.0) + 1000 * torch.arange(float(anchors))[:, None]).flatten()
    boxes = (torch.arange(4.0) + 1000 * torch.arange(float(anchors))[:, None]).flatten()
    return {
        "backbone.body.conv1.weight": torch.zeros(1),
        "head.classification_head.cls_logits.weight": rows[:, None],
        "head.classification_head.cls_logits.bias": rows,
        "head.regression_head.bbox_reg.weight": boxes[:, None],
        "head.regression_head.bbox_reg.bias": boxes,
        "head.classification_head.conv.2.bias": torch.zeros(1),
    }


def test_anchors_are_reordered_and_coco_ids_selected() -> None:
    model = {"head.cls_score.bias": torch.zeros(9 * 80), "head.bbox_pred.bias": torch.zeros(36)}
    weights = convert(coco(9), model).weights
    ids = list(MetadataCatalog.get("coco_2017_val").thing_dataset_id_to_contiguous_id)
    order = [0, 3, 6, 1, 4, 7, 2, 5, 8]  # their anchor, ratios outermost, of each of ours
    expected = [1000 * anchor + number for anchor in order for number in ids]
    assert weights["head.cls_score.bias"].tolist() == expected
    assert weights["head.bbox_pred.bias"][::4].tolist() == [1000 * anchor for anchor in order]
    assert "head.cls_subnet.2.bias" in weights  # an old file's name
