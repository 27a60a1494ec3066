"""One path, one format; and the same boxes in all of them."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from d2ext.data.formats import DatasetSplit, detect, load_split, register_format, with_classes
from d2ext.errors import DataError
from tests.helpers.dataset_folders import save_image, voc_box, voc_xml, write

BOXES = {"a": [("dog", 3, 4, 10, 9), ("cat", 12, 6, 8, 12)], "b": [("cat", 1, 2, 5, 6)]}


def in_three_formats(folder):
    """The same boxes as COCO, VOC (which counts pixels from 1) and YOLO."""
    names, images, annotations = ("cat", "dog"), [], []
    for number, (stem, boxes) in enumerate(BOXES.items(), start=1):
        for place in ("images/train", "voc/JPEGImages"):
            save_image(folder / place / f"{stem}.png")
        images.append({"id": number, "file_name": f"{stem}.png", "width": 32, "height": 24})
        objects, lines = "", ""
        for name, x, y, w, h in boxes:
            index = names.index(name)
            item = {"id": len(annotations) + 1, "image_id": number, "category_id": index + 1}
            annotations.append({**item, "bbox": [x, y, w, h]})
            objects += voc_box(name, f"{x + 1} {y + 1} {x + w} {y + h}")
            lines += f"{index} {(x + w / 2) / 32} {(y + h / 2) / 24} {w / 32} {h / 24}\n"
        write(folder / "voc" / "Annotations" / f"{stem}.xml", voc_xml(objects, f"{stem}.png"))
        write(folder / "labels" / "train" / f"{stem}.txt", lines)
    write(folder / "voc" / "ImageSets" / "Main" / "train.txt", "a\nb\n")
    write(folder / "data.yaml", "train: images/train\nnames: [cat, dog]\n")
    categories = [{"id": n, "name": name} for n, name in enumerate(names, start=1)]
    document = {"images": images, "annotations": annotations, "categories": categories}
    write(folder / "annotations" / "instances_train.json", json.dumps(document))


def comparable(source, classes):
    """What all formats have in common of a source."""
    return [
        {
            "name": Path(image["file_name"]).name,
            "size": (image["width"], image["height"], image["image_id"]),
            "boxes": [pytest.approx(item["bbox"], abs=0.001) for item in image["annotations"]],
            "classes": [item["category_id"] for item in image["annotations"]],
            "modes": [item["bbox_mode"] for item in image["annotations"]],
        }
        for image in with_classes(source, classes).images
    ]


def values(found):
    return [{**image, "boxes": [box.expected for box in image["boxes"]]} for image in found]


def test_the_same_boxes_in_three_formats_load_to_the_same_dicts(tmp_path):
    in_three_formats(tmp_path)
    sources = [load_split(tmp_path / name, "train") for name in ("annotations", "voc", "data.yaml")]
    assert [source.format for source in sources] == ["COCO", "Pascal VOC", "YOLO"]
    coco, voc, yolo = (comparable(source, sources[0].classes) for source in sources)
    assert coco
    assert values(voc) == coco
    assert values(yolo) == coco


def test_a_folder_of_several_formats_is_ambiguous_and_says_what_to_name(tmp_path):
    in_three_formats(tmp_path)
    with pytest.raises(DataError) as error:
        load_split(tmp_path, "train")
    for name in ("annotations", "data.yaml"):
        assert str(tmp_path / name) in str(error.value)


def test_a_path_that_is_not_there_names_its_neighbours(tmp_path):
    write(tmp_path / "train.json", "{}")
    with pytest.raises(DataError, match=r"no such file or folder\. In that folder: train\.json"):
        load_split(tmp_path / "trian.json")


def test_what_is_there_is_listed_once_where_nothing_is_recognised(tmp_path):
    save_image(tmp_path / "photos" / "a.png")
    write(tmp_path / "notes.md", "none")
    with pytest.raises(DataError) as told:
        load_split(tmp_path)
    assert str(told.value).endswith("In it: photos/, notes.md.")


def test_a_format_that_was_registered_is_recognised(tmp_path, monkeypatch):
    def find(path, images):
        return {"": SimpleNamespace(path=path)} if path.suffix == ".blob" else {}

    def load(part):
        return DatasetSplit("blobs", part.path, "", "boxes", ("blob",), [{"file_name": "a.png"}])

    monkeypatch.setattr(detect._FORMATS, "_values", dict(detect._FORMATS._values))
    # Formats that are imported now would be forgotten with the patched registry.
    monkeypatch.setattr(detect, "import_projects", lambda: None)
    register_format("blobs", find, load)
    found = load_split(write(tmp_path / "a.blob", ""))
    assert (found.format, found.classes) == ("blobs", ("blob",))
    with pytest.raises(DataError, match=r"known are .*COCO.*, blobs"):
        load_split(write(tmp_path / "a.other", ""))


def test_a_format_cannot_take_the_name_of_another():
    with pytest.raises(ValueError, match="COCO"):
        register_format("COCO", lambda path, images: {}, lambda part: None)
