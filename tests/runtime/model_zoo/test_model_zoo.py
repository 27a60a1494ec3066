"""The model zoo: published settings and checkpoint URLs."""

from pathlib import Path

import pytest
from omegaconf import OmegaConf

import d2ext  # noqa: F401
from d2ext._detectron2 import provider
from detectron2.config import CfgNode, instantiate

model_zoo = pytest.importorskip("detectron2.model_zoo", reason="it needs pkg_resources")

PREFIX = "https://dl.fbaipublicfiles.com/detectron2/"


def configs() -> list[str]:
    root = Path(model_zoo.get_config_file("Base-RCNN-FPN.yaml")).parent
    paths = (path.relative_to(root).as_posix() for path in root.rglob("*.yaml"))
    return sorted(path for path in paths if not path.startswith("quick_schedules"))


def value(cfg: CfgNode, key: str) -> object:
    for part in key.split("."):
        cfg = cfg[part]
    return cfg


@pytest.mark.parametrize(
    ("config", "key", "expected"),
    [
        ("Base-RCNN-C4", "SOLVER.STEPS", (60000, 80000)),
        ("Base-RetinaNet", "MODEL.RETINANET.SMOOTH_L1_LOSS_BETA", 0.0),
        ("COCO-Detection/faster_rcnn_R_50_DC5_3x", "MODEL.RESNETS.RES5_DILATION", 2),
        ("COCO-Detection/faster_rcnn_X_101_32x8d_FPN_3x", "MODEL.RESNETS.WIDTH_PER_GROUP", 8),
        ("COCO-Detection/retinanet_R_101_FPN_3x", "SOLVER.BASE_LR", 0.01),
        ("COCO-Detection/rpn_R_50_C4_1x", "MODEL.META_ARCHITECTURE", "ProposalNetwork"),
        ("COCO-InstanceSegmentation/mask_rcnn_R_101_C4_3x", "MODEL.RESNETS.DEPTH", 101),
        ("COCO-Keypoints/keypoint_rcnn_R_50_FPN_1x", "MODEL.RPN.POST_NMS_TOPK_TRAIN", 1500),
        ("COCO-PanopticSegmentation/panoptic_fpn_R_50_3x", "MODEL.SEM_SEG_HEAD.LOSS_WEIGHT", 0.5),
        ("Cityscapes/mask_rcnn_R_50_FPN", "INPUT.MIN_SIZE_TEST", 1024),
        ("Detectron1-Comparisons/keypoint_rcnn_R_50_FPN_1x", "MODEL.RPN.SMOOTH_L1_BETA", 0.1111),
        ("LVISv1-InstanceSegmentation/mask_rcnn_R_101_FPN_1x", "MODEL.ROI_HEADS.NUM_CLASSES", 1203),
        ("Misc/scratch_mask_rcnn_R_50_FPN_9x_syncbn", "TEST.PRECISE_BN.ENABLED", True),
        ("Misc/cascade_mask_rcnn_R_50_FPN_3x", "MODEL.ROI_HEADS.NAME", "CascadeROIHeads"),
        ("PascalVOC-Detection/faster_rcnn_R_50_C4", "SOLVER.MAX_ITER", 18000),
    ],
)
def test_settings_are_the_published_ones(config: str, key: str, expected: object):
    assert value(model_zoo.get_config(config + ".yaml"), key) == expected


def test_anchors_of_retinanet_are_octaves():
    sizes = model_zoo.get_config("Base-RetinaNet.yaml").MODEL.ANCHOR_GENERATOR.SIZES
    assert sizes[4] == [512, 512 * 2 ** (1 / 3), 512 * 2 ** (2 / 3)]


def test_every_config_loads():
    assert len(configs()) == 65
    for path in configs():
        assert model_zoo.get_config(path).VERSION == 2


def test_addresses_are_the_published_ones():
    gn = "Misc/scratch_mask_rcnn_R_50_FPN_3x_gn"
    assert model_zoo.get_checkpoint_url(f"{gn}.yaml") == (
        f"{PREFIX}{gn}/138602908/model_final_01ca85.pkl"
    )
    assert model_zoo.get_checkpoint_url(f"{gn}.py") == model_zoo.get_checkpoint_url(f"{gn}.yaml")
    x152 = "Misc/cascade_mask_rcnn_X_152_32x8d_FPN_IN5k_gn_dconv"
    assert model_zoo.get_checkpoint_url(f"{x152}.yaml") == (
        f"{PREFIX}{x152}/18131413/model_0039999_e76410.pkl"
    )


def test_a_trained_config_has_the_checkpoint_as_its_weights():
    path = "COCO-Detection/retinanet_R_50_FPN_1x.yaml"
    plain, trained = model_zoo.get_config(path), model_zoo.get_config(path, trained=True)
    assert plain.MODEL.WEIGHTS == "detectron2://ImageNetPretrained/MSRA/R-50.pkl"
    url = model_zoo.get_checkpoint_url(path)
    assert url == trained.MODEL.WEIGHTS


def test_a_config_outside_of_the_zoo_is_an_error():
    with pytest.raises(RuntimeError, match="none"):
        model_zoo.get_config_file("COCO-Detection/none.yaml")
    with pytest.raises(RuntimeError, match="Base"):
        model_zoo.get_checkpoint_url("Base-RCNN-FPN.yaml")


@pytest.mark.skipif(provider() != "bundled", reason="the official one does not list them")
def test_the_error_lists_the_known_configs():
    with pytest.raises(RuntimeError, match=r"retinanet_R_50_FPN_1x\.yaml"):
        model_zoo.get_config_file("COCO-Detection/none.yaml")


@pytest.mark.parametrize(
    ("config", "key", "expected"),
    [
        ("common/models/mask_rcnn_fpn", "model.roi_heads.box_predictor.num_classes", 80),
        ("common/models/mask_rcnn_c4", "model.roi_heads.mask_head.input_shape.channels", 2048),
        ("common/models/keypoint_rcnn_fpn", "model.proposal_generator.post_nms_topk", [1500, 1000]),
        ("common/models/cascade_rcnn", "model.roi_heads.box_predictors.1.num_classes", 80),
        ("common/models/panoptic_fpn", "model.sem_seg_head.input_shape.p5.channels", 256),
        ("common/models/retinanet", "model.backbone.top_block.out_channels", 256),
        ("common/models/fcos", "model.backbone.top_block.in_feature", "p5"),
        ("common/data/coco_keypoint", "dataloader.train.dataset.min_keypoints", 1),
        ("common/data/coco", "dataloader.evaluator.dataset_name", "coco_2017_val"),
        ("common/coco_schedule", "lr_multiplier_3x.scheduler.milestones.0", 210000),
        ("common/optim", "AdamW.params.base_lr", 0.0001),
        ("common/train", "train.checkpointer.max_to_keep", 100),
        ("COCO-Detection/retinanet_R_50_FPN_1x", "optimizer.lr", 0.01),
        ("COCO-InstanceSegmentation/mask_rcnn_R_50_C4_1x", "model.backbone.freeze_at", 2),
    ],
)
def test_lazy_configs_have_the_published_keys_and_values(config: str, key: str, expected: object):
    value = OmegaConf.select(model_zoo.get_config(config + ".py"), key)
    # A tuple becomes a list in omegaconf before 2.4 and stays one from there on.
    assert (list(value) if isinstance(expected, list) else value) == expected


def test_a_lazy_model_follows_the_number_of_classes():
    cfg = model_zoo.get_config("common/models/cascade_rcnn.py")
    cfg.model.roi_heads.num_classes = 3
    heads = instantiate(cfg.model).roi_heads
    assert [predictor.num_classes for predictor in heads.box_predictor] == [3, 3, 3]
    assert heads.mask_head.predictor.out_channels == 3
