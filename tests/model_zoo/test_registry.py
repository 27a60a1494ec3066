from copy import deepcopy

import pytest
import torchvision

from d2ext.config import load_config
from d2ext.config.load import find_config
from d2ext.config.projects import import_projects
from d2ext.model_zoo import (
    ModelEntry,
    all_models,
    find_model,
    model_of_url,
    register_model,
    registry,
    similar_names,
)
from d2ext.model_zoo.entry import TASKS
from d2ext.model_zoo.timm_models import timm_entries
from detectron2 import model_zoo as detectron2_zoo


def test_names_are_unique_and_facts_are_of_their_kind() -> None:
    entries = all_models()
    assert len({entry.name for entry in entries}) == len(entries) > 200
    for entry in entries:
        assert entry.task in TASKS, entry
        assert entry.url.startswith("https://") or entry.package, entry
        assert set(entry.sha256) <= set("0123456789abcdef"), entry
        assert entry.licence, entry


def test_every_config_of_an_entry_is_shipped() -> None:
    for config in {entry.config for entry in all_models() if entry.config}:
        assert find_config(config).is_file()


def test_the_pixels_of_detectors_are_those_of_their_configs() -> None:
    import_projects()
    for entry in all_models():
        if entry.pixels is None or not entry.config:
            continue
        cfg = load_config(entry.config)
        found = (cfg.INPUT.FORMAT, tuple(cfg.MODEL.PIXEL_MEAN), tuple(cfg.MODEL.PIXEL_STD))
        pixels = (entry.pixels.format, entry.pixels.mean, entry.pixels.std)
        assert found == pixels, entry


def test_addresses_of_detectron2s_zoo_are_detectron2s() -> None:
    url = detectron2_zoo.get_checkpoint_url("COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x.yaml")
    entry = find_model("mask_rcnn_r50_fpn_3x")
    assert entry is not None
    assert entry.url == url
    assert model_of_url(url) == entry
    short = url.replace("https://dl.fbaipublicfiles.com/detectron2/", "detectron2://")
    assert model_of_url(short) == entry


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("dyhead_swint", "dyhead_swint_atss_fpn_2x_ms"),
        ("DyHead-SwinT", "dyhead_swint_atss_fpn_2x_ms"),
        ("detr_r50", "detr_r50"),  # other names begin like it
        ("torchvision_resnet50.imagenet1k_v2", "torchvision_resnet50.imagenet1k_v2"),
        ("resnet50.a1_in1k", "resnet50.a1_in1k"),
        ("timm/resnet50.a1_in1k", "resnet50.a1_in1k"),
    ],
)
def test_a_name_or_a_beginning_that_only_one_has(name: str, found: str) -> None:
    entry = find_model(name)
    assert entry is not None
    assert entry.name == found


@pytest.mark.parametrize("name", ["dyhead", "nothing", "resnet50.nothing", "output/model", ""])
def test_other_names_are_unknown(name: str) -> None:
    assert find_model(name) is None


def test_similar_names_begin_alike_or_are_spelt_alike() -> None:
    assert similar_names("dyhead_r50")[0] == "dyhead_r50_atss_fpn_1x"
    assert "detr_r50" in similar_names("dert_r50")
    assert similar_names("dyhed_swint") == ["dyhead_swint_atss_fpn_2x_ms"]
    assert similar_names("resnet50.a1_in2k")[0] == "resnet50.a1_in1k"


def test_non_commercial_licences_are_marked() -> None:
    marked = [entry for entry in all_models() if not entry.commercial]
    assert {e.family for e in marked} == {"MaskFormer", "Mask2Former", "AdelaiDet", "torchvision"}
    assert all("swag" in e.name for e in marked if e.family == "torchvision")
    timms = {entry.licence for entry in timm_entries() if not entry.commercial}
    assert {"cc-by-nc-4.0", "fair-noncommercial-research-license", "apple-amlr"} <= timms
    assert not timms & {"apache-2.0", "mit", "bsd-3-clause", "cc-by-4.0", "not stated"}


def test_weights_of_a_project_are_registered_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_ADDED", deepcopy(registry._ADDED))
    mine = ModelEntry("my_net", "mine", "masks", "MIT", url="https://example.org/my_net.pth")
    register_model(mine)
    assert find_model("my_net") == mine
    for taken in (mine, ModelEntry("msra_r50", "mine", "masks", "MIT")):
        with pytest.raises(ValueError, match="already"):
            register_model(taken)
    with pytest.raises(ValueError, match="lower case"):
        register_model(ModelEntry("My-Net", "mine", "masks", "MIT"))


def test_published_figures_are_named_with_their_data_set() -> None:
    stated = [entry for entry in all_models() if entry.published]
    assert len(stated) > 330
    for entry in stated:
        figures, _, data = entry.published.partition(" on ")
        assert any(character.isdigit() for character in figures), entry
        assert data[:1].isupper(), entry


def test_all_of_torchvisions_imagenet_weights_have_names() -> None:
    urls = {entry.url for entry in all_models()}
    for builder in torchvision.models.list_models(module=torchvision.models):
        for weights in torchvision.models.get_model_weights(builder):
            assert weights.url in urls, weights
