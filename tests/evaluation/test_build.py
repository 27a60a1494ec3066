import pytest

from d2ext.config import get_cfg
from d2ext.errors import ConfigError
from d2ext.evaluation import build_evaluator, register_evaluator
from d2ext.evaluation.coco_ap import CocoAp
from d2ext.registry import ExtensionRegistry
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import (
    CityscapesInstanceEvaluator,
    COCOEvaluator,
    RotatedCOCOEvaluator,
    SemSegEvaluator,
)


@pytest.fixture
def name():
    name = "set_for_test_build"
    DatasetCatalog.register(name, list)
    yield name
    DatasetCatalog.remove(name)
    MetadataCatalog.remove(name)


def test_an_unknown_evaluator_type_is_refused_with_the_known_ones(name):
    MetadataCatalog.get(name).set(evaluator_type="lvis")
    with pytest.raises(ConfigError, match=r"set_for_test_build.*'lvis' is unknown.*Known: .*coco"):
        build_evaluator(get_cfg(), name)


@pytest.mark.parametrize("folder", [None, "elsewhere"])
def test_results_go_to_the_folder_or_to_one_of_the_data_set(name, folder, tmp_path):
    annotations = tmp_path / "a.json"
    annotations.write_text('{"info": {}, "images": [], "annotations": [], "categories": []}')
    MetadataCatalog.get(name).set(json_file=str(annotations), evaluator_type="coco")
    cfg = get_cfg()
    cfg.OUTPUT_DIR = str(tmp_path)
    evaluator = build_evaluator(cfg, name, tmp_path / folder if folder else None)
    assert isinstance(evaluator, COCOEvaluator)
    expected = tmp_path / (folder or f"inference/{name}")
    assert evaluator._output_dir == str(expected)


@pytest.mark.parametrize(("kind", "anchors"), [("coco_rotated", ""), ("coco", "Rotated")])
def test_rotated_boxes_of_data_or_model_are_measured_by_rotated_iou(name, kind, anchors, tmp_path):
    annotations = tmp_path / "a.json"
    annotations.write_text('{"info": {}, "images": [], "annotations": [], "categories": []}')
    MetadataCatalog.get(name).set(json_file=str(annotations), evaluator_type=kind)
    cfg = get_cfg()
    cfg.MODEL.ANCHOR_GENERATOR.NAME = f"{anchors or 'Default'}AnchorGenerator"
    assert isinstance(build_evaluator(cfg, name, tmp_path), RotatedCOCOEvaluator)


def test_semantic_masks_are_measured_by_iou_of_pixels(name, tmp_path):
    MetadataCatalog.get(name).set(
        evaluator_type="sem_seg", stuff_classes=["road"], ignore_label=255
    )
    assert isinstance(build_evaluator(get_cfg(), name, tmp_path), SemSegEvaluator)


@pytest.mark.parametrize(
    ("scripts", "kind"), [(True, CityscapesInstanceEvaluator), (False, CocoAp)]
)
def test_cityscapes_is_measured_by_its_scripts_where_they_are(
    name, tmp_path, monkeypatch, scripts, kind
):
    annotations = tmp_path / "a.json"
    annotations.write_text('{"info": {}, "images": [], "annotations": [], "categories": []}')
    metadata = {"gt_dir": str(tmp_path), "thing_classes": ["car"], "json_file": str(annotations)}
    MetadataCatalog.get(name).set(evaluator_type="cityscapes_instance", **metadata)
    monkeypatch.setattr("d2ext.evaluation.build.find_spec", lambda package: scripts or None)
    assert type(build_evaluator(get_cfg(), name, tmp_path)) is kind


def test_a_registered_type_is_built_with_config_name_and_folder(name, tmp_path, monkeypatch):
    monkeypatch.setattr("d2ext.evaluation.build._BUILDERS", ExtensionRegistry("evaluator"))
    MetadataCatalog.get(name).set(evaluator_type="boxes_in_space")
    register_evaluator("boxes_in_space", lambda *given: given)
    cfg = get_cfg()
    assert build_evaluator(cfg, name, tmp_path) == (cfg, name, str(tmp_path))
