"""Panoptic FPN: merging of instances and stuff."""

import pytest
import torch

import d2ext  # noqa: F401
from detectron2.config import CfgNode, get_cfg
from detectron2.modeling import PanopticFPN, build_model
from detectron2.modeling.meta_arch.panoptic_fpn import combine_semantic_and_instance_outputs
from detectron2.structures import Boxes, Instances, PolygonMasks
from detectron2.utils.events import EventStorage
from tests.helpers.weights import fill
from tests.helpers.weights import image as picture

# What Detectron2 gives.
EXPECTED_LOSS = 2.3058288  # of the semantic head
EXPECTED_STUFF = [(1, 1549), (3, 1347), (4, 105)]  # class and area in pixels


def instances() -> Instances:
    """Return four instances: the second is the best and covers a quarter of the first."""
    masks = torch.zeros(4, 8, 8, dtype=torch.bool)
    masks[0, :4, :4] = True
    masks[1, 2:6, 2:6] = True
    masks[2] = True
    found = Instances((8, 8), pred_masks=masks, scores=torch.tensor([0.6, 0.9, 0.3, 0.7]))
    found.pred_classes = torch.tensor([1, 2, 3, 4])
    return found


def stuff() -> torch.Tensor:
    semantic = torch.zeros(8, 8, dtype=torch.int64)
    semantic[6:] = 1
    semantic[:, 7] = 2
    return semantic


def test_the_best_instance_is_on_top_and_stuff_fills_the_rest():
    segments, infos = combine_semantic_and_instance_outputs(instances(), stuff(), 0.5, 4, 0.5)
    assert segments.dtype == torch.int32
    assert segments.flatten().bincount().tolist() == [14, 16, 12, 14, 8]
    assert segments[2, 2] == 1
    assert infos == [
        {"id": 1, "isthing": True, "score": pytest.approx(0.9), "category_id": 2, "instance_id": 1},
        {"id": 2, "isthing": True, "score": pytest.approx(0.6), "category_id": 1, "instance_id": 0},
        {"id": 3, "isthing": False, "category_id": 1, "area": 14},
        {"id": 4, "isthing": False, "category_id": 2, "area": 8},
    ]


def test_instances_with_too_much_overlap_are_dropped():
    _, infos = combine_semantic_and_instance_outputs(instances(), stuff(), 0.1, 9, 0.5)
    assert [info["category_id"] for info in infos] == [2, 1]
    assert [info["isthing"] for info in infos] == [True, False]


def test_worse_instances_fill_the_area_left_by_better_ones():
    segments, infos = combine_semantic_and_instance_outputs(instances(), stuff(), 0.6, 1, 0.0)
    assert [info["category_id"] for info in infos] == [2, 1, 3]
    assert (segments > 0).all()


def config() -> CfgNode:
    cfg = get_cfg()
    cfg.merge_from_list(
        [
            "MODEL.DEVICE", "cpu",
            "MODEL.META_ARCHITECTURE", "PanopticFPN",
            "MODEL.BACKBONE.NAME", "build_resnet_fpn_backbone",
            "MODEL.RESNETS.DEPTH", 18,
            "MODEL.RESNETS.RES2_OUT_CHANNELS", 64,
            "MODEL.RESNETS.OUT_FEATURES", ["res2", "res3", "res4", "res5"],
            "MODEL.FPN.IN_FEATURES", ["res2", "res3", "res4", "res5"],
            "MODEL.FPN.OUT_CHANNELS", 32,
            "MODEL.ANCHOR_GENERATOR.SIZES", [[32], [64], [128], [256], [512]],
            "MODEL.RPN.IN_FEATURES", ["p2", "p3", "p4", "p5", "p6"],
            "MODEL.ROI_HEADS.NAME", "StandardROIHeads",
            "MODEL.ROI_HEADS.IN_FEATURES", ["p2", "p3", "p4", "p5"],
            "MODEL.ROI_HEADS.NUM_CLASSES", 3,
            "MODEL.ROI_BOX_HEAD.NAME", "FastRCNNConvFCHead",
            "MODEL.ROI_BOX_HEAD.NUM_FC", 1,
            "MODEL.ROI_BOX_HEAD.FC_DIM", 32,
            "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION", 7,
            "MODEL.MASK_ON", True,
            "MODEL.ROI_MASK_HEAD.NUM_CONV", 1,
            "MODEL.ROI_MASK_HEAD.CONV_DIM", 16,
            "MODEL.SEM_SEG_HEAD.NUM_CLASSES", 5,
            "MODEL.SEM_SEG_HEAD.CONVS_DIM", 32,
            "MODEL.PANOPTIC_FPN.COMBINE.STUFF_AREA_LIMIT", 50,
            # No instance passes: their weights are random.
            "MODEL.PANOPTIC_FPN.COMBINE.INSTANCES_CONFIDENCE_THRESH", 1.1,
        ]
    )  # fmt: skip
    return cfg


@pytest.fixture(scope="module")
def model() -> PanopticFPN:
    torch.manual_seed(0)
    model = build_model(config())
    fill(model, skip=("roi_heads", "proposal_generator"))
    return model


@pytest.fixture
def image() -> dict:
    truth = Instances((96, 128), gt_boxes=Boxes(torch.tensor([[10.0, 10, 60, 70]])))
    truth.gt_classes = torch.tensor([1])
    truth.gt_masks = PolygonMasks([[[10.0, 10, 60, 10, 60, 70]]])
    return {
        "image": picture(3, 96, 128),
        "instances": truth,
        "sem_seg": torch.arange(96 * 128).reshape(96, 128) % 5,
        "height": 48,
        "width": 64,
    }


def test_training_returns_all_losses(model: PanopticFPN, image: dict):
    with EventStorage():
        losses = model.train()([image])
    assert list(losses) == [
        "loss_sem_seg", "loss_rpn_cls", "loss_rpn_loc", "loss_cls", "loss_box_reg", "loss_mask",
    ]  # fmt: skip
    assert losses["loss_sem_seg"].item() == pytest.approx(EXPECTED_LOSS, rel=1e-4)


@torch.no_grad()
def test_inference_returns_instances_semantic_and_panoptic_results(model: PanopticFPN, image: dict):
    (found,) = model.eval()([image])
    assert sorted(found) == ["instances", "panoptic_seg", "sem_seg"]
    segments, infos = found["panoptic_seg"]
    assert segments.shape == found["sem_seg"].shape[1:] == (48, 64)
    assert [(info["category_id"], info["area"]) for info in infos] == EXPECTED_STUFF


@torch.no_grad()
def test_raw_results_are_returned_without_postprocessing(model: PanopticFPN, image: dict):
    found, scores = model.eval().inference([image], do_postprocess=False)
    assert found[0].image_size == (96, 128)
    assert scores.shape == (1, 5, 96, 128)
