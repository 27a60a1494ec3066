"""Files of other families are recognised by their names, and what loads them is said."""

from pathlib import Path

import pytest
import timm
import torch
import torchvision
from torch import nn

import d2ext.modeling  # noqa: F401 # registers the models
from d2ext.checkpoint import Checkpointer
from d2ext.checkpoint.families import describe_family
from d2ext.config import load_config
from d2ext.config.paths import config_root, project_root
from d2ext.engine.dataless import build_model_without_data
from d2ext.errors import WeightsError


@pytest.mark.parametrize(
    ("config", "family"),
    [
        ("configs/mask_rcnn_regnetx200m.yaml", "Mask R-CNN"),
        ("configs/keypoint_rcnn_regnetx200m.yaml", "Keypoint R-CNN"),
        ("configs/rotated_faster_rcnn_regnetx200m.yaml", "Faster R-CNN"),
        ("configs/semantic_fpn_regnetx200m.yaml", "a semantic FPN"),
        ("projects/detr/configs/dino_regnetx200m.yaml", "DINO or Deformable DETR"),
        ("projects/maskformer/configs/mask2former_regnetx200m_instance.yaml", "Mask2Former"),
        ("projects/detr3d/configs/detr3d_scenes.yaml", "DETR3D"),
        ("configs/atss_lite0.yaml", "ATSS or FCOS"),
        ("configs/dyhead_regnetx200m.yaml", "DyHead"),
        ("projects/yolo_fastest/configs/yolo_fastest_v2.yaml", "YOLO-FastestV2"),
    ],
)
def test_models_of_d2ext_are_told_apart(config: str, family: str) -> None:
    names = build_model_without_data(load_config(config)).state_dict()
    assert describe_family(names).startswith(f"It holds {family}: ")


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("resnet10t", "an ImageNet ResNet"),
        ("convnext_atto", "an ImageNet ConvNeXt"),
        ("regnetx_002", "an ImageNet RegNet"),
        ("tf_efficientnet_lite0", "an ImageNet EfficientNet"),
        ("vit_tiny_patch16_224", "an ImageNet vision transformer"),
        ("swin_tiny_patch4_window7_224", "an ImageNet Swin Transformer"),
    ],
)
def test_classifiers_are_told_apart(name: str, family: str) -> None:
    assert describe_family(timm.create_model(name).state_dict()).startswith(f"It holds {family}: ")


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("maskrcnn_resnet50_fpn", "Mask R-CNN (torchvision)"),
        ("keypointrcnn_resnet50_fpn", "Keypoint R-CNN (torchvision)"),
        ("fasterrcnn_mobilenet_v3_large_fpn", "Faster R-CNN (torchvision)"),
        ("fcos_resnet50_fpn", "FCOS (torchvision)"),
        ("retinanet_resnet50_fpn", "RetinaNet (torchvision)"),
        ("ssdlite320_mobilenet_v3_large", "SSD (torchvision)"),
        ("deeplabv3_mobilenet_v3_large", "a semantic segmenter of torchvision"),
        ("fcn_resnet50", "a semantic segmenter of torchvision"),
        ("mobilenet_v3_small", "an ImageNet MobileNet, VGG or other classifier of torchvision"),
    ],
)
def test_torchvisions_models_are_told_apart(name: str, family: str) -> None:
    weights = {} if "classifier" in family else {"weights_backbone": None}
    with torch.device("meta"):
        model = torchvision.models.get_model(name, weights=None, **weights)
    assert describe_family(model.state_dict()).startswith(f"It holds {family}: ")


@pytest.mark.parametrize(
    ("names", "family"),
    [
        (["model.0.conv.weight", "model.22.cv2.0.0.conv.weight"], "YOLO of Ultralytics"),
        (["backbone.conv1.weight", "bbox_head.fc_cls.weight"], "a detector of MMDetection"),
        (["image_encoder.pos_embed", "mask_decoder.iou_token.weight"], "Segment Anything"),
        (["backbone.0.encoder.x", "transformer.decoder.layers.0.norm1.weight"], "RF-DETR"),
        (["backbone.res_layers.0.x", "decoder.dec_score_head.0.weight"], "RT-DETR"),
        (["backbone.backbone.dark2.0.conv.weight", "head.cls_convs.0.0.conv.weight"], "YOLOX"),
        (["class_net.predict.weight", "box_net.predict.weight"], "EfficientDet"),
    ],
)
def test_models_that_nothing_here_loads_are_named(names: list[str], family: str) -> None:
    assert family in describe_family(names)
    assert "no model of d2ext loads it" in describe_family(names)


def test_unknown_names_are_no_family() -> None:
    assert describe_family(["a", "b.weight"]) == ""


def test_every_config_that_a_family_names_is_there() -> None:
    import d2ext.checkpoint.families as families

    for family in families._families():
        for word in family.loads.replace(",", " ").split():
            if word.endswith(".yaml") and word.startswith("configs/"):
                assert list(config_root().glob(word.removeprefix("configs/"))), family
            if word.startswith("projects/"):
                assert project_root().joinpath(word.split("/")[1]).is_dir(), family


def test_the_error_says_what_a_file_is_and_what_loads_it(tmp_path: Path) -> None:
    names = ["model.0.conv.weight", "model.22.cv2.0.0.conv.weight"]
    torch.save({"model": {name: torch.ones(1) for name in names}}, tmp_path / "yolo.pth")
    with pytest.raises(WeightsError, match="It holds YOLO of Ultralytics: no model of d2ext"):
        Checkpointer(nn.Linear(2, 2)).load(str(tmp_path / "yolo.pth"))


def test_the_error_names_the_recipes_of_torchvisions_models(tmp_path: Path) -> None:
    build = torchvision.models.detection.fasterrcnn_mobilenet_v3_large_fpn
    model = build(weights=None, weights_backbone=None)
    torch.save(model.state_dict(), tmp_path / "detector.pth")
    with pytest.raises(WeightsError, match=r"Faster R-CNN \(torchvision\): configs/rcnn/torchv"):
        Checkpointer(nn.Linear(2, 2)).load(str(tmp_path / "detector.pth"))


@pytest.mark.parametrize(
    ("source", "target", "said"),
    [
        ("a", "b", "It holds DETR: projects/detr/configs/coco/*.yaml. layout d2ext: 1 tensors"),
        ("a", "a", "layout d2ext: 3 tensors"),
        ("backbone", "b", "layout of the backbone itself: 2 tensors"),
    ],
)
def test_the_log_names_another_family_of_which_a_part_was_loaded(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, source: str, target: str, said: str
) -> None:
    shared = "backbone.layer1.0.conv1.weight"
    families = {
        "a": [shared, "encoder.layers.0.norm1.weight", "query_embed.weight"],
        "b": [shared, "backbone.layer4.0.conv1.weight", "roi_heads.box_head.fc1.weight"],
        "backbone": ["layer1.0.conv1.weight", "layer4.0.conv1.weight"],
    }
    torch.save({name: torch.ones(1) for name in families[source]}, tmp_path / "weights.pth")
    model = Named(families[target] + ["new"])
    Checkpointer(model).load(str(tmp_path / "weights.pth"))
    assert f"weights.pth: {said}" in caplog.text


class Named(nn.Module):
    """A model with parameters of these names."""

    def __init__(self, names: list[str]) -> None:
        super().__init__()
        self.names = names

    def state_dict(self) -> dict[str, torch.Tensor]:  # type: ignore[override]
        return {name: torch.zeros(1) for name in self.names}


def test_the_error_names_the_architecture_of_a_training_by_d2ext(tmp_path: Path) -> None:
    content = {"model": {"head.a": torch.ones(1)}, "config": "MODEL:\n  META_ARCHITECTURE: ATSS\n"}
    torch.save(content, tmp_path / "own.pth")
    with pytest.raises(WeightsError, match=r"with MODEL\.META_ARCHITECTURE ATSS; the config is in"):
        Checkpointer(nn.Linear(2, 2)).load(str(tmp_path / "own.pth"))
