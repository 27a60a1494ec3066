import pytest

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import load_voc_instances, register_pascal_voc
from detectron2.structures import BoxMode

OBJECT = """<object><name>{}</name><difficult>1</difficult><bndbox>
<xmin>263</xmin><ymin>211</ymin><xmax>324.5</xmax><ymax>339</ymax></bndbox></object>"""
SIZE = "<size><width>500</width><height>375</height><depth>3</depth></size>"


@pytest.fixture
def folder(tmp_path):
    for name in ("Annotations", "ImageSets/Main", "JPEGImages"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "ImageSets/Main/train.txt").write_text("000005\n000002\n")
    objects = {"000005": OBJECT.format("chair") + OBJECT.format("dog"), "000002": ""}
    for stem, text in objects.items():
        path = tmp_path / "Annotations" / f"{stem}.xml"
        path.write_text(f"<annotation>{SIZE}{text}</annotation>")
    return tmp_path


def test_images_have_the_order_of_the_image_set(folder):
    first, second = load_voc_instances(str(folder), "train", ["dog", "chair"])
    assert (first["image_id"], second["image_id"]) == ("000005", "000002")
    assert first["file_name"] == str(folder / "JPEGImages" / "000005.jpg")
    assert (first["height"], first["width"]) == (375, 500)
    assert second["annotations"] == []


def test_pixels_are_counted_from_zero_and_difficult_objects_kept(folder):
    chair, dog = load_voc_instances(str(folder), "train", ["dog", "chair"])[0]["annotations"]
    assert chair == {
        "category_id": 1,
        "bbox": [262.0, 210.0, 324.5, 339.0],
        "bbox_mode": BoxMode.XYXY_ABS,
    }
    assert dog["category_id"] == 0


def test_an_unknown_class_is_an_error(folder):
    with pytest.raises(ValueError, match="chair"):
        load_voc_instances(str(folder), "train", ["dog"])


def test_a_registered_split_is_loaded_on_demand(folder):
    register_pascal_voc("voc_some_test", str(folder), "train", 2007, ["dog", "chair"])
    try:
        meta = MetadataCatalog.get("voc_some_test")
        assert (meta.dirname, meta.split, meta.year) == (str(folder), "train", 2007)
        assert meta.thing_classes == ["dog", "chair"]
        assert len(DatasetCatalog.get("voc_some_test")) == 2
    finally:
        DatasetCatalog.pop("voc_some_test")
        MetadataCatalog.pop("voc_some_test")


def test_all_splits_are_registered():
    names = [name for name in DatasetCatalog.list() if name.startswith("voc_")]
    assert len(names) == 7
    meta = MetadataCatalog.get("voc_2012_val")
    assert (meta.year, meta.split, meta.evaluator_type) == (2012, "val", "pascal_voc")
    assert len(meta.thing_classes) == 20
