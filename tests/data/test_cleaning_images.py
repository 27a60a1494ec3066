"""Single records and images are left out of a training; where half are faulty, it is refused."""

import json

import pytest
from PIL import Image

from d2ext.data import register_coco, write_dropped
from d2ext.errors import DataError
from detectron2.data import DatasetCatalog


def load(coco) -> list[dict]:
    register_coco("left", coco.write().annotations, coco.images)
    return DatasetCatalog.get("left")


def listed(tmp_path) -> list[dict]:
    (path,) = write_dropped(tmp_path / "out")
    return json.loads(path.read_text())


@pytest.mark.parametrize(
    ("change", "code", "what"),
    [
        ({"bbox": [1, 2, 3]}, "record-broken", "box that is not four numbers"),
        ({"bbox": None}, "record-broken", "box that is not four numbers"),
        ({"image_id": 99}, "object-orphan", "annotation of an unknown image"),
        ({"image_id": [1]}, "object-orphan", "annotation of an unknown image"),
        ({"category_id": 9}, "class-unknown", "unknown category"),
        ({"category_id": {}}, "class-unknown", "unknown category"),
    ],
)
def test_a_record_that_cannot_be_read_is_left_out(coco, tmp_path, change, code, what):
    coco.add_box(2, [1, 1, 5, 5])
    coco.document["annotations"][2].update(change)
    assert [len(item["annotations"]) for item in load(coco)] == [1, 1, 0]
    (fault,) = listed(tmp_path)
    assert (fault["code"], fault["where"]) == (code, f"{coco.annotations}:3")
    assert what in fault["detail"]


def test_an_image_that_cannot_be_read_is_left_out_with_what_is_on_it(coco, tmp_path, caplog):
    (coco.images / "a.png").write_bytes(b"")
    assert [item["file_name"][-5:] for item in load(coco)] == ["b.png", "c.png"]
    (fault,) = listed(tmp_path)
    assert (fault["code"], fault["image"]) == ("image-empty", str(coco.images / "a.png"))
    assert fault["detail"] == "0 bytes; dropped with 1 annotations"
    assert "dropped 1 records: 1 image-empty" in caplog.text


def test_an_image_of_another_size_is_left_out(coco, tmp_path):
    Image.new("RGB", (30, 24), "red").save(coco.images / "a.png")
    assert len(load(coco)) == 2
    said = "30 x 24 pixels, its annotation says 32 x 24"
    assert listed(tmp_path)[0]["detail"].startswith(said)


def test_where_half_of_the_images_are_unusable_training_is_refused(coco):
    for name in ("a.png", "b.png"):
        (coco.images / name).write_bytes(b"oops")
    with pytest.raises(DataError, match=r"2 of 3 images .* cannot be used: a\.png \(no image"):
        load(coco)


def test_where_every_object_is_on_an_unusable_image_training_is_refused(coco):
    coco.document["annotations"].pop()
    (coco.images / "a.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"every annotation is on one of the 1 images"):
        load(coco)
