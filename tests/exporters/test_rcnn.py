"""R-CNNs as exported modules and files give what the models give."""

import pytest
import torch
from torch import Tensor

from d2ext.errors import ConfigError
from d2ext.exporters import exporter_for
from d2ext.exporters.check import compare, compare_detections
from d2ext.exporters.detections import instances_of, to_image
from d2ext.exporters.exported_module import ExportedModule, build_exported_module
from d2ext.exporters.formats import load, save
from detectron2.modeling import build_model
from detectron2.structures import Boxes
from tests.helpers.detectors import STRIDES, some_images
from tests.helpers.runtime_rcnn import tiny_model
from tests.test_rcnn_recipes import narrow

# A backbone of five convolutions: exporting takes seconds per layer.
PYRAMID = {
    "MODEL__BACKBONE__NAME": "ExportPyramid",
    "MODEL__RPN__IN_FEATURES": list(STRIDES),
    "MODEL__ROI_HEADS__IN_FEATURES": list(STRIDES)[:4],
    "MODEL__PIXEL_STD": [58.0, 58.0, 58.0],
}
CASCADE = {
    "MODEL__ROI_HEADS__NAME": "CascadeROIHeads",
    "MODEL__ROI_BOX_HEAD__CLS_AGNOSTIC_BBOX_REG": True,
}
C4 = {
    "MODEL__BACKBONE__NAME": "build_resnet_backbone",
    "MODEL__RESNETS__OUT_FEATURES": ["res4"],
    "MODEL__RPN__IN_FEATURES": ["res4"],
    "MODEL__ANCHOR_GENERATOR__SIZES": [[16, 32, 64]],
    "MODEL__ROI_HEADS__NAME": "Res5ROIHeads",
    "MODEL__ROI_HEADS__IN_FEATURES": ["res4"],
    "MODEL__ROI_BOX_HEAD__POOLER_RESOLUTION": 14,
}
CASES = {
    "boxes": {},
    "class-agnostic boxes": {"MODEL__ROI_BOX_HEAD__CLS_AGNOSTIC_BBOX_REG": True},
    "sigmoid classes": {"MODEL__ROI_BOX_HEAD__USE_SIGMOID_CE": True},
    "Detectron1's pooling": {"MODEL__ROI_BOX_HEAD__POOLER_TYPE": "ROIAlign"},
    "masks": {"MODEL__MASK_ON": True},
    "class-agnostic masks": {
        "MODEL__MASK_ON": True,
        "MODEL__ROI_MASK_HEAD__CLS_AGNOSTIC_MASK": True,
    },
    "keypoints": {"MODEL__KEYPOINT_ON": True},
    "cascade": {"MODEL__MASK_ON": True, **CASCADE},
    "C4": {"MODEL__MASK_ON": True, **C4},
    "RPN alone": {"MODEL__META_ARCHITECTURE": "ProposalNetwork"},
    "few proposals": {"MODEL__PROPOSAL_GENERATOR__MIN_SIZE": 60},
}


def exported(changes: dict, paste: str = "none", for_onnx: bool = False) -> ExportedModule:
    exporter = exporter_for(tiny_model(**{**PYRAMID, **changes}).eval())
    return build_exported_module(exporter, "inside", "inside", for_onnx, paste).eval()


@torch.no_grad()
@pytest.mark.parametrize(
    ("name", "paste"), [*((name, "none") for name in CASES), ("masks", "inside"), ("C4", "inside")]
)
def test_detections_are_those_of_the_model(name: str, paste: str) -> None:
    module, images = exported(CASES[name], paste), some_images(2, 250, 313)
    given, expected = module(images), module.exporter.detect(images)
    difference = compare_detections(given, expected, module.output_names[3:])
    assert not difference.fault
    assert "missing" not in difference.text
    assert sum(map(len, expected)) > 4


def test_the_outputs_have_names_and_a_fixed_number_of_places() -> None:
    module = exported({"MODEL__MASK_ON": True, "MODEL__KEYPOINT_ON": True})
    with torch.no_grad():
        outputs = module(some_images(3, 288, 256))
    shapes = dict(zip(module.output_names, (tuple(each.shape) for each in outputs), strict=True))
    assert shapes == {
        "boxes": (3, 10, 4),
        "scores": (3, 10),
        "classes": (3, 10),
        "masks": (3, 10, 28, 28),
        "keypoint_heatmaps": (3, 10, 17, 56, 56),
    }


@torch.no_grad()
def test_candidates_and_raw_outputs_are_of_every_proposal() -> None:
    exporter, images = exporter_for(tiny_model(**PYRAMID).eval()), some_images(2, 256, 320)
    boxes, scores = build_exported_module(exporter, "none", "inside", False)(images)
    assert (boxes.shape, scores.shape) == ((2, 20, 3, 4), (2, 20, 3))
    module = build_exported_module(exporter, "none", "none", False)
    raw = dict(zip(("proposals", "scores", "deltas"), module(images), strict=True))
    assert module.output_names == tuple(raw)
    assert raw["deltas"].shape == (2, 20, 12)
    torch.testing.assert_close(raw["scores"].where(raw["scores"] > 0.05, 0.0), scores)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"MODEL__ROI_BOX_HEAD__POOLER_TYPE": "ROIPool"}, "RoIPool cannot be exported"),
        (
            {"MODEL__KEYPOINT_ON": True, "MODEL__ROI_KEYPOINT_HEAD__POOLER_TYPE": "ROIPool"},
            "RoIPool cannot be exported",
        ),
    ],
)
def test_pooling_that_has_no_equal_is_refused(changes: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        exported(changes)


def test_a_backbone_that_takes_any_size_is_not_padded_for() -> None:
    exporter = exported(CASES["C4"]).exporter
    assert (exporter.stride, exporter.multiple) == (1, 1)


def test_a_panoptic_model_is_refused() -> None:
    with pytest.raises(ConfigError, match="no semantic maps"):
        exporter_for(build_model(narrow("panoptic_fpn_r50_1x")).eval())


def test_only_masks_can_be_pasted() -> None:
    with pytest.raises(ConfigError, match="--paste inside: GeneralizedRCNN predicts no masks"):
        exported({}, paste="inside")


def check(kind: str, path, changes: dict, paste: str = "none") -> None:
    """Compare a file with its model at other batch and image sizes than it was written with."""
    module = exported(changes, paste, for_onnx=kind == "onnx")
    with torch.no_grad():
        module(some_images(2, 256, 320))
    save(module, some_images(2, 256, 320), True, {}, kind, path)
    batches = [some_images(1, 70, 50), some_images(3, 301, 288)]
    for difference in compare(load(path, kind), module, batches):
        assert not difference.fault
        assert ": 0 detections" not in difference.text


@pytest.mark.parametrize("name", ["cascade", "keypoints", "C4"])
def test_torchscript(name: str, tmp_path) -> None:
    check("torchscript", tmp_path / "model.pt", CASES[name])


@pytest.mark.slow
def test_onnx_of_a_cascade_with_pasted_masks_and_keypoints(tmp_path) -> None:
    changes = {"MODEL__MASK_ON": True, "MODEL__KEYPOINT_ON": True, **CASCADE}
    check("onnx", tmp_path / "model.onnx", changes, "inside")


@pytest.mark.slow
def test_torch_export(tmp_path) -> None:
    check("torch_export", tmp_path / "model.pt2", CASES["boxes"])


@torch.no_grad()
@pytest.mark.parametrize("paste", ["none", "inside"])
def test_outputs_become_what_the_model_gives_for_an_image_of_another_size(paste: str) -> None:
    module = exported({"MODEL__MASK_ON": True, "MODEL__KEYPOINT_ON": True}, paste)
    images = some_images(1, 256, 320)
    tensors = [each[0] for each in module(images)]
    outputs: dict[str, Tensor] = dict(zip(module.output_names, tensors, strict=True))
    found = to_image(instances_of(outputs, (256, 320)), 384, 400)
    item = {"image": images[0], "height": 384, "width": 400}
    expected = module.exporter.model([item])[0]["instances"]
    assert len(found) == len(expected) > 4
    assert isinstance(found.pred_boxes, Boxes)
    torch.testing.assert_close(found.pred_boxes.tensor, expected.pred_boxes.tensor)
    torch.testing.assert_close(found.pred_keypoints, expected.pred_keypoints)
    apart = (found.pred_masks ^ expected.pred_masks).float().mean()
    assert apart < (0.01 if paste == "none" else 0.03)  # pasted ones were pixels before
