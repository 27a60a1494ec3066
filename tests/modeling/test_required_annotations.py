import pytest

from d2ext.config import get_cfg
from d2ext.errors import ConfigError
from d2ext.modeling import required_annotations as module
from d2ext.modeling.meta_arch import Detector
from d2ext.modeling.required_annotations import (
    register_required_annotations,
    required_annotations,
)
from detectron2.config import CfgNode
from detectron2.modeling import META_ARCH_REGISTRY, GeneralizedRCNN


def config(architecture: str, *options: object) -> CfgNode:
    cfg = get_cfg()
    cfg.merge_from_list(["MODEL.META_ARCHITECTURE", architecture, *options])
    return cfg


@pytest.fixture
def register(monkeypatch):
    """A function that registers a class of the test as a meta-architecture."""
    monkeypatch.setattr(META_ARCH_REGISTRY, "_obj_map", dict(META_ARCH_REGISTRY._obj_map))
    monkeypatch.setattr(module, "_RULES", dict(module._RULES))
    return META_ARCH_REGISTRY.register


@pytest.mark.parametrize(
    ("architecture", "kinds"),
    [
        ("ATSS", {"boxes"}),
        ("FCOS", {"boxes"}),
        ("DenseDetector", {"boxes"}),
        ("GeneralizedRCNN", {"boxes"}),
        ("RetinaNet", {"boxes"}),
        ("ProposalNetwork", {"boxes"}),
        ("SemanticSegmentor", {"semantic masks"}),
        ("PanopticFPN", {"semantic masks", "boxes"}),
    ],
)
def test_each_architecture_asks_for_what_it_learns(architecture, kinds):
    expected = dict.fromkeys(kinds, f"MODEL.META_ARCHITECTURE {architecture}")
    assert required_annotations(config(architecture)) == expected


@pytest.mark.parametrize("architecture", ["GeneralizedRCNN", "PanopticFPN"])
def test_masks_and_keypoints_are_asked_for_by_their_switches(architecture):
    needs = required_annotations(config(architecture, "MODEL.MASK_ON", True))
    assert needs["masks"] == "MODEL.MASK_ON True"
    assert "keypoints" not in needs
    needs = required_annotations(config(architecture, "MODEL.KEYPOINT_ON", True))
    assert needs["keypoints"] == "MODEL.KEYPOINT_ON True"
    assert "masks" not in needs


def test_a_semantic_segmentor_has_no_instances_to_mask():
    cfg = config("SemanticSegmentor", "MODEL.MASK_ON", True, "MODEL.KEYPOINT_ON", True)
    assert set(required_annotations(cfg)) == {"semantic masks"}


def test_a_project_declares_any_kind_by_a_class_method(register):
    @register()
    class LidarDetector(Detector):
        @classmethod
        def required_annotations(cls, cfg):
            return {"boxes in space": "MODEL.META_ARCHITECTURE LidarDetector"}

    assert set(required_annotations(config("LidarDetector"))) == {"boxes in space"}


def test_a_subclass_asks_for_what_its_parent_does(register):
    @register()
    class ScoredRCNN(GeneralizedRCNN):
        pass

    assert set(required_annotations(config("ScoredRCNN"))) == {"boxes"}


def test_an_architecture_of_another_package_is_registered_with_its_rule(register):
    @register()
    class Foreign:
        pass

    assert required_annotations(config("Foreign")) == {}
    register_required_annotations(Foreign, lambda cfg: {"depth": "MODEL.META_ARCHITECTURE Foreign"})
    assert set(required_annotations(config("Foreign"))) == {"depth"}


def test_an_unknown_architecture_is_an_error_that_names_the_nearest():
    with pytest.raises(ConfigError, match=r"MODEL\.META_ARCHITECTURE: 'ATS'.*ATSS"):
        required_annotations(config("ATS"))
