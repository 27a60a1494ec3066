"""Semantic FPN: state dict names and outputs match Detectron2."""

import pytest
import torch

import d2ext  # noqa: F401
from detectron2.config import CfgNode, get_cfg
from detectron2.layers import ShapeSpec
from detectron2.modeling import SEM_SEG_HEADS_REGISTRY, SemanticSegmentor, build_model
from detectron2.modeling.meta_arch.semantic_seg import SemSegFPNHead
from tests.helpers.weights import fill, image

# What Detectron2 gives.
EXPECTED_SCORES = [1.997268, 2.227377, -0.645702, 1.063671, -2.705223]
EXPECTED_LOSS = 1.151248


def config() -> CfgNode:
    cfg = get_cfg()
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.META_ARCHITECTURE = "SemanticSegmentor"
    cfg.MODEL.BACKBONE.NAME = "build_resnet_fpn_backbone"
    cfg.MODEL.RESNETS.DEPTH = 18
    cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 64
    cfg.MODEL.RESNETS.OUT_FEATURES = ["res2", "res3", "res4", "res5"]
    cfg.MODEL.FPN.IN_FEATURES = ["res2", "res3", "res4", "res5"]
    cfg.MODEL.FPN.OUT_CHANNELS = 32
    cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = 5
    cfg.MODEL.SEM_SEG_HEAD.CONVS_DIM = 32
    cfg.MODEL.SEM_SEG_HEAD.LOSS_WEIGHT = 0.5
    return cfg


@pytest.fixture(scope="module")
def model() -> SemanticSegmentor:
    model = build_model(config())
    fill(model)
    return model


@pytest.fixture
def picture() -> torch.Tensor:
    return image(3, 96, 128)


def test_the_head_has_the_published_state_dict_names():
    shapes = {f"p{level}": ShapeSpec(channels=8, stride=2**level) for level in (5, 2, 3)}
    head = SemSegFPNHead(shapes, num_classes=2, conv_dims=4, common_stride=4, norm="BN")
    weights = [name for name in head.state_dict() if name.endswith("weight")]
    assert [name for name in weights if "norm" not in name] == [
        "p2.0.weight", "p3.0.weight", "p5.0.weight", "p5.2.weight", "p5.4.weight",
        "predictor.weight",
    ]  # fmt: skip
    assert "p5.4.norm.weight" in weights
    assert "p2.0.bias" not in head.state_dict()


@torch.no_grad()
def test_scores_match_detectron2_at_the_requested_size(model, picture):
    model.eval()
    small, whole = model([{"image": picture, "height": 48, "width": 64}, {"image": picture}])
    assert small["sem_seg"].shape == (5, 48, 64)
    assert whole["sem_seg"].shape == (5, 96, 128)
    torch.testing.assert_close(
        small["sem_seg"][:, 3, 4], torch.tensor(EXPECTED_SCORES), atol=1e-3, rtol=1e-3
    )


def test_the_loss_matches_detectron2_and_excludes_ignored_pixels(model, picture):
    target = torch.arange(96 * 128).reshape(96, 128) % 5
    target[:4] = 255
    (loss,) = model.train()([{"image": picture, "sem_seg": target}]).values()
    assert loss.item() == pytest.approx(EXPECTED_LOSS, rel=1e-4)
    target[:] = 255
    target[0, 0] = 0
    (loss,) = model([{"image": picture, "sem_seg": target}]).values()
    scores = model.sem_seg_head.eval()(model.backbone(normalized(model, picture)))[0]
    expected = 0.5 * -scores[0, :, 0, 0].log_softmax(0)[0]
    assert loss.item() == pytest.approx(expected.item(), rel=1e-4)


def normalized(model: SemanticSegmentor, picture: torch.Tensor) -> torch.Tensor:
    return ((picture - model.pixel_mean) / model.pixel_std)[None]


def test_a_registered_head_is_built_by_name():
    @SEM_SEG_HEADS_REGISTRY.register()
    class HeadForATest(torch.nn.Identity):
        pass

    cfg = config()
    cfg.MODEL.SEM_SEG_HEAD.NAME = "HeadForATest"
    assert isinstance(build_model(cfg).sem_seg_head, HeadForATest)
