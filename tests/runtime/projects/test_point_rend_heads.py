"""`detectron2.projects.point_rend`: the heads learn, render and read old weights."""

import pytest
import torch

import d2ext  # noqa: F401
from detectron2.config import CfgNode, get_cfg
from detectron2.layers import ShapeSpec
from detectron2.modeling import SEM_SEG_HEADS_REGISTRY, build_mask_head
from detectron2.projects.point_rend import add_pointrend_config
from detectron2.projects.point_rend.mask_head import calculate_uncertainty
from detectron2.projects.point_rend.point_head import build_point_head, roi_mask_point_loss
from detectron2.structures import BitMasks, Boxes, Instances
from detectron2.utils.events import EventStorage

SHAPES = {"p2": ShapeSpec(channels=8, stride=4)}
SIZE = (32, 40)


def config(name: str = "PointRendMaskHead") -> CfgNode:
    cfg = get_cfg()
    add_pointrend_config(cfg)
    mask, point = cfg.MODEL.ROI_MASK_HEAD, cfg.MODEL.POINT_HEAD
    mask.NAME, mask.POINT_HEAD_ON, mask.POOLER_TYPE = name, True, ""
    mask.FC_DIM, mask.CONV_DIM, mask.POOLER_RESOLUTION = 8, 8, 14
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = point.NUM_CLASSES = 3
    cfg.MODEL.SEM_SEG_HEAD.IN_FEATURES, cfg.MODEL.SEM_SEG_HEAD.CONVS_DIM = ["p2"], 32
    point.FC_DIM, point.SUBDIVISION_STEPS = 8, 3
    if name.startswith("Implicit"):
        point.NAME = "ImplicitPointHead"
    return cfg


def features() -> dict[str, torch.Tensor]:
    return {"p2": torch.randn(1, 8, 8, 10)}


def proposals() -> Instances:
    boxes = Boxes(torch.tensor([[4.0, 4, 28, 28], [8.0, 2, 40, 20]]))
    masks = torch.zeros(2, *SIZE, dtype=torch.bool)
    masks[:, 8:20, 10:25] = True
    fields = {"proposal_boxes": boxes, "gt_boxes": boxes, "gt_masks": BitMasks(masks)}
    return Instances(SIZE, **fields, gt_classes=torch.tensor([0, 2]))


@pytest.mark.parametrize("name", ["PointRendMaskHead", "ImplicitPointRendMaskHead"])
def test_a_mask_head_has_a_loss_at_points_and_gradients_everywhere(name):
    head = build_mask_head(config(name), SHAPES)
    with EventStorage() as storage:
        losses = head(features(), [proposals()])
    other = "loss_l2" if name.startswith("Implicit") else "loss_mask"
    assert set(losses) == {other, "loss_mask_point"}
    assert 0 <= storage.latest()["point/accuracy"][0] <= 1
    sum(losses.values()).backward()
    assert all(parameter.grad is not None for parameter in head.parameters())


@pytest.mark.parametrize(
    ("name", "side"), [("PointRendMaskHead", 56), ("ImplicitPointRendMaskHead", 224)]
)
@pytest.mark.parametrize("count", [0, 2])
def test_masks_are_rendered_by_doubling(name, side, count):
    head = build_mask_head(config(name), SHAPES).eval()
    found = Instances(SIZE, pred_boxes=proposals().proposal_boxes[:count])
    found.pred_classes = torch.zeros(count, dtype=torch.int64)
    with torch.no_grad():
        (found,) = head(features(), [found])
    assert found.pred_masks.shape == (count, 1, side, side)


def test_the_semantic_head_learns_at_points_and_renders():
    head = SEM_SEG_HEADS_REGISTRY.get("PointRendSemSegHead")(config(), SHAPES)
    labels = torch.full((1, *SIZE), 255)
    labels[:, :16] = 1
    scores, losses = head(features(), labels)
    assert scores is None
    assert set(losses) == {"loss_sem_seg", "loss_sem_seg_point"}
    scores, losses = head.eval()(features())
    assert (tuple(scores.shape), losses) == ((1, 3, 64, 80), {})


def test_uncertainty_is_the_negative_distance_to_the_decision():
    logits = torch.tensor([[[2.0], [-3.0]], [[0.5], [1.0]]])
    assert calculate_uncertainty(logits, torch.tensor([1, 0])).flatten().tolist() == [-3.0, -0.5]


def test_ignored_points_have_no_loss_and_count_in_the_mean():
    logits = torch.zeros(1, 1, 4)
    labels = torch.tensor([[1.0, 0.0, -1.0, -1.0]])
    with EventStorage():
        loss = roi_mask_point_loss(logits, [Instances(SIZE)], labels)
    assert loss.item() == pytest.approx(0.5 * torch.tensor(2.0).log().item())


def test_the_parameters_of_an_implicit_head_are_weights_then_biases():
    cfg = config("ImplicitPointRendMaskHead")
    cfg.MODEL.IMPLICIT_POINTREND.POS_ENC_ENABLED = False
    cfg.MODEL.POINT_HEAD.NUM_FC, cfg.MODEL.POINT_HEAD.FC_DIM = 1, 1
    head = build_point_head(cfg, ShapeSpec(channels=2))
    assert head.num_params == 2 + 3 + 1 + 3
    parameters = torch.tensor([[1.0, 2, 1, 10, 100, 5, 0, 0, 7]])
    logits = head(torch.tensor([[[3.0], [4.0]]]), torch.zeros(1, 1, 2), parameters)
    assert logits.flatten().tolist() == [16.0, 160.0, 1607.0]


def test_weights_of_version_1_are_read():
    head = build_mask_head(config(), SHAPES).coarse_head
    old = {name.replace("fc", "coarse_mask_fc"): value for name, value in head.state_dict().items()}
    assert any(name.startswith("coarse_mask_fc1") for name in old)
    head.load_state_dict(old)


def test_other_numbers_of_classes_are_refused():
    cfg = config()
    cfg.MODEL.POINT_HEAD.NUM_CLASSES = 4
    with pytest.raises(ValueError, match=r"NUM_CLASSES is 4.* 3: they have to be equal"):
        build_mask_head(cfg, SHAPES)
