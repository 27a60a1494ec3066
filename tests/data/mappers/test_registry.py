"""A config chooses its dataset mapper by name; by default the meta-architecture does."""

import pytest

from d2ext.config import get_cfg
from d2ext.data.mappers import TrainMapper, build_mapper, mapper_name, register_mapper, registry
from d2ext.errors import ConfigError
from detectron2.data import DatasetMapper
from detectron2.modeling import META_ARCH_REGISTRY


@pytest.fixture(autouse=True)
def restored(monkeypatch):
    """Forget at the end what a test registers."""
    monkeypatch.setattr(registry._MAPPERS, "_values", dict(registry._MAPPERS._values))
    monkeypatch.setattr(META_ARCH_REGISTRY, "_obj_map", dict(META_ARCH_REGISTRY._obj_map))


def test_models_of_detectron2_get_the_default_mapper():
    cfg = get_cfg()
    assert mapper_name(cfg) == "default"
    assert isinstance(build_mapper(cfg, "train"), TrainMapper)
    assert isinstance(build_mapper(cfg, "validation"), TrainMapper)
    assert isinstance(build_mapper(cfg, "test"), DatasetMapper)


def test_a_meta_architecture_names_its_mapper_and_the_config_wins():
    @META_ARCH_REGISTRY.register()
    class NeedsPairs:
        dataset_mapper = "pairs"

    register_mapper("pairs", lambda cfg, mode, items: lambda item: (mode, len(items), item))
    cfg = get_cfg()
    cfg.MODEL.META_ARCHITECTURE = "NeedsPairs"
    assert build_mapper(cfg, "train", [{}, {}])("an item") == ("train", 2, "an item")
    cfg.DATALOADER.MAPPER = "default"
    assert isinstance(build_mapper(cfg, "train"), TrainMapper)


def test_an_unknown_mapper_is_refused_with_the_known_ones():
    cfg = get_cfg()
    cfg.DATALOADER.MAPPER = "none_such"
    said = r"DATALOADER\.MAPPER: the dataset mapper 'none_such' is unknown.*Known: .*default"
    with pytest.raises(ConfigError, match=said):
        build_mapper(cfg, "train")


def test_a_name_is_taken_once():
    with pytest.raises(ValueError, match="registered as 'default' already"):
        register_mapper("default", lambda cfg, mode, items: None)
