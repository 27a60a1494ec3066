"""torchvision's R-CNNs: the same boxes, masks, keypoints and losses from the same state dict."""

from functools import lru_cache

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import detection

from d2ext.checkpoint.conversion import convert
from detectron2.data import MetadataCatalog
from detectron2.structures import BitMasks, Instances, Keypoints
from tests.helpers.torchvision_detectors import (
    SIZES,
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
FEW = {"rpn_pre_nms_top_n_test": 200, "rpn_post_nms_top_n_test": 50, "box_score_thresh": 0.2}
FEW_HERE = (
    *("MODEL.RPN.PRE_NMS_TOPK_TEST", 200, "MODEL.RPN.POST_NMS_TOPK_TEST", 50),
    *("MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.2),
)
NAMES = {
    "loss_classifier": "loss_cls",
    "loss_objectness": "loss_rpn_cls",
    "loss_rpn_box_reg": "loss_rpn_loc",
}


@lru_cache(maxsize=2)
def pair(name: str, config: str, classes: int = CLASSES) -> tuple[nn.Module, nn.Module]:
    create = getattr(detection, name)
    origin = theirs(create, classes + 1, **FEW)
    if "mask" in name:
        with torch.no_grad():
            origin.roi_heads.mask_predictor.mask_fcn_logits.weight *= 10  # far from 1/2
    return origin, ours(config, origin, "MODEL.ROI_HEADS.NUM_CLASSES", classes, *FEW_HERE)


def their_detections(origin: nn.Module) -> list[dict[str, Tensor]]:
    """Return torchvision's detections, with masks as they are before they are pasted."""
    raw: list[dict[str, Tensor]] = []
    hook = origin.roi_heads.register_forward_hook(
        lambda module, inputs, outputs: raw.extend(dict(found) for found in outputs[0])
    )
    with torch.no_grad():
        found = origin.eval()([one / 255 for one in images()])
    hook.remove()
    return [{**one, "small_masks": few.get("masks")} for one, few in zip(found, raw, strict=True)]


def check_boxes(origin: nn.Module, model: nn.Module) -> None:
    for wanted, found in zip(their_detections(origin), detections(model), strict=True):
        assert len(wanted["boxes"]) > 10
        assert len(wanted["labels"].unique()) > 1 or model.roi_heads.num_classes == 1
        check_detections(found, wanted)


def check_losses(model: nn.Module, targets: list[Instances], wanted: dict[str, Tensor]) -> None:
    found = losses(model, targets)
    assert len(found) == len(wanted)
    for name, value in wanted.items():
        torch.testing.assert_close(found[NAMES.get(name, name)], value, rtol=2e-3, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("version", ["", "_v2"])
def test_boxes_and_losses_are_torchvisions(version: str) -> None:
    origin, model = pair(f"fasterrcnn_resnet50_fpn{version}", f"faster_rcnn_r50_fpn{version}")
    check_boxes(origin, model)
    targets = truth(CLASSES)
    check_losses(model, targets, their_losses(origin, targets))


@pytest.mark.slow
@pytest.mark.parametrize("version", ["", "_v2"])
def test_masks_are_torchvisions(version: str) -> None:
    origin, model = pair(f"maskrcnn_resnet50_fpn{version}", f"mask_rcnn_r50_fpn{version}")
    small: list[Tensor] = []
    hook = model.roi_heads.register_forward_hook(
        lambda module, inputs, outputs: small.extend(found.pred_masks for found in outputs[0])
    )
    detections(model)
    hook.remove()
    # Compared before they are pasted, which Detectron2 does at fractions of a pixel.
    for wanted, masks in zip(their_detections(origin), small, strict=True):
        assert masks.std() > 0.1
        assert masks.shape == wanted["small_masks"].shape
        # In the order of scores, which only ties change.
        difference = (masks - wanted["small_masks"]).abs().amax(dim=(1, 2, 3))
        assert (difference < 5e-3).float().mean() > 0.9


@pytest.mark.slow
@pytest.mark.parametrize("version", ["", "_v2"])
def test_the_loss_of_masks_is_torchvisions(version: str) -> None:
    origin, model = pair(f"maskrcnn_resnet50_fpn{version}", f"mask_rcnn_r50_fpn{version}")
    targets = truth(CLASSES)
    masks = []
    for size, instances in zip(SIZES, targets, strict=True):
        # Full and empty masks: their crops are the same by every rule.
        full = torch.ones(3, *size, dtype=torch.bool)
        full[1] = False
        masks.append(full.byte())
        instances.gt_masks = BitMasks(full)
    check_losses(model, targets, their_losses(origin, targets, masks=masks))


@pytest.mark.slow
def test_keypoints_and_losses_are_torchvisions() -> None:
    origin, model = pair("keypointrcnn_resnet50_fpn", "keypoint_rcnn_r50_fpn", classes=1)
    check_boxes(origin, model)
    for wanted, found in zip(their_detections(origin), detections(model), strict=True):
        points = wanted["keypoints"][:, :, :2]
        distance = (found.pred_keypoints[:, :, :2] - points).norm(dim=2)
        # The maximum of a heat map may have a rival of the same height within rounding.
        assert (distance < 0.05).float().mean() > 0.99
    targets = truth(1)
    points = []
    for instances in targets:
        low, high = instances.gt_boxes.tensor[:, None].split(2, dim=2)
        spots = low + torch.linspace(0.05, 0.95, 17)[None, :, None] * (high - low)
        seen = (torch.arange(17) % 3).expand(3, -1)[..., None]
        points.append(torch.cat([spots, seen], dim=2))
        instances.gt_keypoints = Keypoints(points[-1])
    check_losses(model, targets, their_losses(origin, targets, keypoints=points))


def coco(classes: int) -> dict[str, Tensor]:
    """Return the class rows of a model by torchvision's numbers, each row filled with its own."""
    rows = torch.arange(float(classes))
    return {
        "backbone.body.conv1.weight": torch.zeros(1),
        "rpn.head.cls_logits.weight": torch.zeros(1),
        "roi_heads.box_predictor.cls_score.weight": rows[:, None],
        "roi_heads.box_predictor.cls_score.bias": rows,
        "roi_heads.box_predictor.bbox_pred.weight": rows.repeat_interleave(4)[:, None],
        "roi_heads.box_predictor.bbox_pred.bias": rows.repeat_interleave(4),
        "roi_heads.mask_predictor.mask_fcn_logits.weight": rows[:, None],
        "roi_heads.mask_predictor.mask_fcn_logits.bias": rows,
    }


def test_coco_models_of_80_classes_take_the_rows_of_their_category_ids() -> None:
    place = "roi_heads.box_predictor."
    model = {
        f"{place}cls_score.bias": torch.zeros(81),
        f"{place}bbox_pred.bias": torch.zeros(320),
        "roi_heads.mask_head.predictor.bias": torch.zeros(80),
    }
    found = convert(coco(91), model)
    scores = found.weights[f"{place}cls_score.bias"]
    ids = list(MetadataCatalog.get("coco_2017_val").thing_dataset_id_to_contiguous_id)
    assert scores.tolist() == [*ids, 0]  # the background last
    assert found.weights[f"{place}bbox_pred.bias"][::4].tolist() == ids
    assert found.weights["roi_heads.mask_head.predictor.bias"].tolist() == ids
    assert f"{place}cls_score.bias" in found.selected


def test_old_files_have_norms_without_epsilon() -> None:
    variance = "backbone.body.layer1.0.bn1.running_var"
    new = coco(4) | {variance: torch.full((2,), 1e-4)}
    old = new | {"backbone.fpn.inner_blocks.0.weight": torch.zeros(1)}
    ours_name = "backbone.bottom_up.res2.0.conv1.norm.running_var"
    assert torch.equal(convert(new).weights[ours_name], torch.full((2,), 1e-4))
    torch.testing.assert_close(convert(old).weights[ours_name], torch.full((2,), 9e-5))
    assert "backbone.fpn_lateral2.weight" in convert(old).weights


def test_names_before_torchvision_0_13_are_known() -> None:
    old = coco(4) | {
        name: torch.zeros(1)
        for name in (
            "backbone.fpn.layer_blocks.3.bias",
            "rpn.head.conv.weight",
            "roi_heads.mask_head.mask_fcn4.bias",
        )
    }
    found = convert(old).weights
    assert found.keys() >= {
        "backbone.fpn_output5.bias",
        "proposal_generator.rpn_head.conv.weight",
        "roi_heads.mask_head.mask_fcn4.bias",
    }
