import pytest

from detectron2.data import DatasetCatalog, MetadataCatalog


@pytest.fixture
def name():
    yield "catalog_test"
    for catalog in (DatasetCatalog, MetadataCatalog):
        if "catalog_test" in catalog:
            catalog.remove("catalog_test")


def test_a_dataset_is_loaded_on_demand(name):
    calls = []
    DatasetCatalog.register(name, lambda: calls.append(1) or [{"image_id": 3}])
    assert not calls
    assert DatasetCatalog.get(name) == [{"image_id": 3}]
    assert name in DatasetCatalog.list()


def test_a_name_is_registered_once(name):
    DatasetCatalog.register(name, list)
    with pytest.raises(AssertionError, match="already registered"):
        DatasetCatalog.register(name, list)


def test_the_error_for_an_unknown_name_lists_the_known_ones():
    with pytest.raises(KeyError, match="coco_2017_val"):
        DatasetCatalog.get("no_such_set")


def test_metadata_of_a_name_is_always_the_same_object(name):
    MetadataCatalog.get(name).thing_classes = ["a"]
    assert MetadataCatalog.get(name).thing_classes == ["a"]
    assert MetadataCatalog.get(name).as_dict() == {"name": name, "thing_classes": ["a"]}


def test_metadata_does_not_change_once_set(name):
    meta = MetadataCatalog.get(name).set(thing_classes=["a"])
    meta.thing_classes = ["a"]
    with pytest.raises(AssertionError):
        meta.thing_classes = ["b"]


def test_missing_metadata_gives_a_default_or_an_error_with_the_known_keys(name):
    meta = MetadataCatalog.get(name).set(evaluator_type="coco")
    assert meta.get("thing_classes", 5) == 5
    with pytest.raises(AttributeError, match="evaluator_type"):
        _ = meta.thing_classes
