"""R-CNNs of every kind: outputs match Detectron2 for deterministic weights and images."""

from dataclasses import dataclass
from typing import Any

import pytest
import torch

from d2ext._detectron2 import provider
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage
from tests.helpers.runtime_rcnn import batch, tiny_model


@dataclass
class Variant:
    """A change of Faster R-CNN, and the official package's numbers.

    Attributes:
        changes: of the config.
        losses: of one step.
        gradient: norm of the gradient of their sum.
        found: sums over the scores, boxes, masks and keypoints of each image.
    """

    changes: dict[str, Any]
    losses: dict[str, float]
    gradient: float
    found: dict[str, list[float]]


VARIANTS = {
    "fpn": Variant(
        changes={},
        losses={
            "loss_cls": 4.53449,
            "loss_box_reg": 1.01527,
            "loss_rpn_cls": 0.35973,
            "loss_rpn_loc": 0.00167746,
        },
        gradient=97.1893,
        found={"scores": [7.9308, 9.1356], "boxes": [2767.34, 2959.75]},
    ),
    "mask_and_keypoints": Variant(
        changes={
            "MODEL__MASK_ON": True,
            "MODEL__KEYPOINT_ON": True,
            "MODEL__ROI_HEADS__NUM_CLASSES": 3,
        },
        losses={
            "loss_cls": 4.53449,
            "loss_box_reg": 1.01527,
            "loss_mask": 0.71169,
            "loss_keypoint": 8.11124,
            "loss_rpn_cls": 0.35973,
            "loss_rpn_loc": 0.00167746,
        },
        gradient=97.4018,
        found={
            "scores": [7.9308, 9.1356],
            "boxes": [2767.34, 2959.75],
            "masks": [16776.0, 11635.0],
            "keypoints": [25337.7, 25980.4],
        },
    ),
    "keypoints_by_number": Variant(
        changes={
            "MODEL__KEYPOINT_ON": True,
            "MODEL__ROI_KEYPOINT_HEAD__NORMALIZE_LOSS_BY_VISIBLE_KEYPOINTS": False,
            "MODEL__ROI_BOX_HEAD__SMOOTH_L1_BETA": 0.5,
        },
        losses={
            "loss_cls": 4.53449,
            "loss_box_reg": 0.843871,
            "loss_keypoint": 0.0764156,
            "loss_rpn_cls": 0.35973,
            "loss_rpn_loc": 0.00167746,
        },
        gradient=96.3374,
        found={
            "scores": [7.9308, 9.1356],
            "boxes": [2767.34, 2959.75],
            "keypoints": [25337.7, 25980.4],
        },
    ),
    "gn": Variant(
        changes={
            "MODEL__MASK_ON": True,
            "MODEL__FPN__NORM": "GN",
            "MODEL__ROI_BOX_HEAD__NORM": "GN",
            "MODEL__ROI_BOX_HEAD__NUM_CONV": 1,
            "MODEL__ROI_BOX_HEAD__CONV_DIM": 32,
            "MODEL__ROI_MASK_HEAD__NORM": "GN",
        },
        losses={
            "loss_cls": 1.59031,
            "loss_box_reg": 0.19759,
            "loss_mask": 0.709063,
            "loss_rpn_cls": 0.434727,
            "loss_rpn_loc": 0.00172002,
        },
        gradient=10.1124,
        found={"scores": [4.39761, 3.46774], "boxes": [2487.57, 2355.29], "masks": [163.0, 626.0]},
    ),
    "cascade": Variant(
        changes={
            "MODEL__MASK_ON": True,
            "MODEL__ROI_HEADS__NAME": "CascadeROIHeads",
            "MODEL__ROI_BOX_HEAD__CLS_AGNOSTIC_BBOX_REG": True,
        },
        losses={
            "loss_cls_stage0": 1.33863,
            "loss_box_reg_stage0": 1.27715,
            "loss_cls_stage1": 0.63295,
            "loss_box_reg_stage1": 0.292482,
            "loss_cls_stage2": 2.76285,
            "loss_box_reg_stage2": 0.20692,
            "loss_mask": 0.71169,
            "loss_rpn_cls": 0.35973,
            "loss_rpn_loc": 0.00167746,
        },
        gradient=65.8712,
        found={"scores": [3.18338, 3.09524], "boxes": [2794.79, 3241.59], "masks": [1267.0, 15.0]},
    ),
    "c4": Variant(
        changes={
            "MODEL__MASK_ON": True,
            "MODEL__BACKBONE__NAME": "build_resnet_backbone",
            "MODEL__RESNETS__OUT_FEATURES": ["res4"],
            "MODEL__ROI_HEADS__NAME": "Res5ROIHeads",
            "MODEL__ROI_HEADS__IN_FEATURES": ["res4"],
            "MODEL__RPN__IN_FEATURES": ["res4"],
            "MODEL__ANCHOR_GENERATOR__SIZES": [[16, 64]],
            "MODEL__ROI_BOX_HEAD__POOLER_RESOLUTION": 14,
            "MODEL__ROI_MASK_HEAD__NUM_CONV": 0,
        },
        losses={
            "loss_cls": 0.775634,
            "loss_box_reg": 0.320521,
            "loss_mask": 0.723939,
            "loss_rpn_cls": 0.0330737,
            "loss_rpn_loc": 0.00117973,
        },
        gradient=4.71743,
        found={"scores": [2.02024, 2.04092], "boxes": [2693.2, 2466.08], "masks": [5714.0, 9815.0]},
    ),
    "dc5": Variant(
        changes={
            "MODEL__MASK_ON": True,
            "MODEL__BACKBONE__NAME": "build_resnet_backbone",
            "MODEL__RESNETS__OUT_FEATURES": ["res5"],
            "MODEL__RESNETS__RES5_DILATION": 2,
            "MODEL__ROI_HEADS__IN_FEATURES": ["res5"],
            "MODEL__RPN__IN_FEATURES": ["res5"],
            "MODEL__ANCHOR_GENERATOR__SIZES": [[16, 64]],
        },
        losses={
            "loss_cls": 1.31817,
            "loss_box_reg": 0.22841,
            "loss_mask": 0.695431,
            "loss_rpn_cls": 0.0275801,
            "loss_rpn_loc": 0.00124845,
        },
        gradient=21.6521,
        found={"scores": [3.91062, 3.78168], "boxes": [2843.31, 2726.3], "masks": [480.0, 484.0]},
    ),
    "options": Variant(
        changes={
            "MODEL__MASK_ON": True,
            "MODEL__ROI_MASK_HEAD__CLS_AGNOSTIC_MASK": True,
            "MODEL__ROI_BOX_HEAD__CLS_AGNOSTIC_BBOX_REG": True,
            "MODEL__ROI_BOX_HEAD__TRAIN_ON_PRED_BOXES": True,
            "MODEL__ROI_BOX_HEAD__BBOX_REG_LOSS_TYPE": "giou",
            "MODEL__RPN__BBOX_REG_LOSS_TYPE": "giou",
            "MODEL__RPN__BOUNDARY_THRESH": 4,
            "MODEL__RPN__CONV_DIMS": [16, -1],
            "MODEL__ROI_BOX_HEAD__USE_SIGMOID_CE": True,
            "MODEL__ROI_BOX_HEAD__POOLER_TYPE": "ROIAlign",
            "MODEL__PROPOSAL_GENERATOR__MIN_SIZE": 6,
            "MODEL__RPN__LOSS_WEIGHT": 2.0,
        },
        losses={
            "loss_cls": 2.71602,
            "loss_box_reg": 0.0917704,
            "loss_mask": 0.644193,
            "loss_rpn_cls": 1.29614,
            "loss_rpn_loc": 0.00105063,
        },
        gradient=45.0327,
        found={"scores": [8.34491, 8.69045], "boxes": [2351.78, 2600.63], "masks": [38.0, 59.0]},
    ),
}


@pytest.fixture(scope="module", params=VARIANTS)
def variant(request: pytest.FixtureRequest) -> Variant:
    return VARIANTS[request.param]


def test_losses_and_gradient_match_detectron2(variant: Variant):
    model = tiny_model(**variant.changes).train()
    with EventStorage():
        losses = model(batch())
    assert {name: loss.item() for name, loss in losses.items()} == pytest.approx(
        variant.losses, rel=1e-4
    )
    sum(losses.values()).backward()
    norms = [p.grad.norm() for p in model.parameters() if p.grad is not None]
    assert torch.stack(norms).norm().item() == pytest.approx(variant.gradient, rel=1e-3)


def test_detections_match_detectron2(variant: Variant):
    with torch.no_grad():
        outputs = tiny_model(**variant.changes).eval()(batch())
    sums: dict[str, list[float]] = {}
    for found in (output["instances"] for output in outputs):
        fields = found.get_fields() | {"pred_boxes": found.pred_boxes.tensor}
        for name in variant.found:
            value = fields[name if name == "scores" else f"pred_{name}"]
            sums.setdefault(name, []).append(value.sum().item())
    for name, values in variant.found.items():
        assert sums[name] == pytest.approx(values, rel=1e-4, abs=2 if name == "masks" else 1e-3)


def test_sampling_with_a_seed_matches_detectron2():
    changes = {"MODEL__MASK_ON": True, "MODEL__KEYPOINT_ON": True, "MODEL__BACKBONE__FREEZE_AT": 0}
    sampling = {
        "MODEL__RPN__BATCH_SIZE_PER_IMAGE": 64,
        "MODEL__ROI_HEADS__BATCH_SIZE_PER_IMAGE": 12,
    }
    model = tiny_model(**changes, **sampling).train()
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(parameters, 2e-3, momentum=0.9)
    curve = []
    torch.manual_seed(3)
    with EventStorage():
        for _ in range(4):
            loss = sum(model(batch()).values())
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, 5.0)
            optimizer.step()
            curve.append(loss.item())
    assert curve == pytest.approx([15.737111, 13.339638, 13.407477, 13.332648], rel=1e-5)


def test_images_without_objects_are_background():
    changes = {"MODEL__MASK_ON": True, "MODEL__KEYPOINT_ON": True}
    with EventStorage() as storage:
        losses = tiny_model(**changes).train()(batch(count=0))
        sum(losses.values()).backward()
        assert storage.latest()["roi_head/num_fg_samples"][0] == 0
    for name in ("loss_box_reg", "loss_mask", "loss_keypoint", "loss_rpn_loc"):
        assert losses[name].item() == 0
    assert losses["loss_cls"].item() > 0


def test_sampling_counts_of_a_step_are_logged():
    with EventStorage() as storage:
        tiny_model(MODEL__MASK_ON=True).train()(batch())
        logged = {name: value for name, (value, _) in storage.latest().items()}
    assert logged == pytest.approx(
        {
            "rpn/num_pos_anchors": 4.5,
            "rpn/num_neg_anchors": 3938.5,
            "roi_head/num_fg_samples": 4.5,
            "roi_head/num_bg_samples": 18.5,
            "fast_rcnn/cls_accuracy": 0.065217,
            "fast_rcnn/fg_cls_accuracy": 0.333333,
            "fast_rcnn/false_negative": 0.0,
            "mask_rcnn/accuracy": 0.52381,
            "mask_rcnn/false_positive": 0.305258,
            "mask_rcnn/false_negative": 0.667668,
        },
        abs=1e-4,
    )


def test_visualisations_show_ground_truth_proposals_and_masks():
    with EventStorage() as storage:
        tiny_model(MODEL__MASK_ON=True, VIS_PERIOD=1).train()(batch())
        pictures = {name: tuple(picture.shape) for name, picture, _ in storage._vis_data}
    assert pictures["Left: GT bounding boxes;  Right: Predicted proposals"] == (3, 96, 2 * 128)
    assert pictures["Left: mask prediction;   Right: mask GT (0)"] == (3, 28, 2 * 28)


def test_masks_and_keypoints_are_added_to_given_boxes():
    model = tiny_model(MODEL__MASK_ON=True, MODEL__KEYPOINT_ON=True).eval()
    images = [{"image": item["image"]} for item in batch()]
    given = []
    for item in batch():
        found = Instances(item["instances"].image_size)
        found.pred_boxes, found.pred_classes = Boxes([[10, 10, 60, 50]]), torch.tensor([1])
        given.append(found)
    with torch.no_grad():
        outputs = model.inference(images, given, do_postprocess=False)
    assert [output.pred_masks.shape for output in outputs] == [(1, 1, 28, 28)] * 2
    assert [output.pred_keypoints.shape for output in outputs] == [(1, 17, 3)] * 2


def test_detections_have_the_requested_size():
    model = tiny_model().eval()
    item = batch()[0]
    with torch.no_grad():
        (small,), (large,) = model([item]), model([item | {"height": 192, "width": 256}])
    assert large["instances"].image_size == (192, 256)
    torch.testing.assert_close(
        large["instances"].pred_boxes.tensor, small["instances"].pred_boxes.tensor * 2
    )


def test_proposals_may_come_with_the_images():
    model = tiny_model(MODEL__PROPOSAL_GENERATOR__NAME="PrecomputedProposals")
    assert model.proposal_generator is None
    items = batch()
    for item in items:
        item["proposals"] = Instances(item["instances"].image_size)
        item["proposals"].proposal_boxes = Boxes([[10, 10, 60, 50], [20, 20, 90, 90]])
        item["proposals"].objectness_logits = torch.tensor([1.0, 0.0])
    with EventStorage():
        assert set(model.train()(items)) == {"loss_cls", "loss_box_reg"}
    with torch.no_grad():
        assert len(model.eval()(items)) == 2


def test_a_proposal_network_returns_proposals():
    model = tiny_model(MODEL__META_ARCHITECTURE="ProposalNetwork")
    with EventStorage():
        losses = model.train()(batch())
    expected = {name: VARIANTS["fpn"].losses[name] for name in ("loss_rpn_cls", "loss_rpn_loc")}
    assert {name: loss.item() for name, loss in losses.items()} == pytest.approx(expected, rel=1e-4)
    with torch.no_grad():
        outputs = model.eval()([item | {"height": 48, "width": 64} for item in batch()])
    assert outputs[0]["proposals"].image_size == (48, 64)
    assert 0 < len(outputs[0]["proposals"]) <= 20


@pytest.mark.skipif(provider() == "official", reason="the official one asserts")
def test_a_cascade_with_class_specific_boxes_is_refused():
    with pytest.raises(ValueError, match="CLS_AGNOSTIC_BBOX_REG"):
        tiny_model(MODEL__ROI_HEADS__NAME="CascadeROIHeads")
