"""VIA's own JSON and CSV: shapes, classes in attributes, and what is none."""

import json

import pytest

from d2ext.data.formats import load_split, load_splits
from d2ext.errors import DataError
from tests.helpers.dataset_folders import save_image, write

RECT = {"name": "rect", "x": 4, "y": 5, "width": 10, "height": 6}
POLYGON = {"name": "polygon", "all_points_x": [1, 5, 5], "all_points_y": [2, 2, 8]}


def via(folder, *shapes, attributes=None, whole=False):
    save_image(folder / "a.png")
    given = {"type": "cat"} if attributes is None else attributes
    regions = [{"shape_attributes": shape, "region_attributes": given} for shape in shapes]
    entries = {"a.png123": {"filename": "a.png", "size": 123, "regions": regions}}
    content = {"_via_settings": {}, "_via_img_metadata": entries} if whole else entries
    return write(folder / "via_region_data.json", json.dumps(content))


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("named", [True, False])
def test_rectangles_and_polygons_are_read_from_project_and_export(tmp_path, whole, named):
    file = via(tmp_path, RECT, POLYGON, whole=whole)
    source = load_split(file if named else tmp_path)
    assert (source.format, source.task, source.classes) == ("VIA", "masks", ("cat",))
    box, polygon = source.images[0]["annotations"]
    assert box["bbox"] == [4, 5, 10, 6]
    assert (polygon["bbox"], polygon["segmentation"]) == ([1, 2, 4, 6], [[1, 2, 5, 2, 5, 8]])


def test_regions_in_a_mapping_and_folders_of_splits_are_read(tmp_path):
    for split in ("train", "val"):
        file = via(tmp_path / split, RECT)
        content = json.loads(file.read_text())
        content["a.png123"]["regions"] = {"0": content["a.png123"]["regions"][0]}
        write(file, json.dumps(content))
    found = load_splits(tmp_path)
    assert {s: source.num_annotations for s, source in found.items()} == {"train": 1, "val": 1}


def test_a_circle_is_a_polygon_and_a_point_is_an_issue(tmp_path):
    circle = {"name": "circle", "cx": 10, "cy": 10, "r": 5}
    source = load_split(via(tmp_path, circle, {"name": "point", "cx": 1, "cy": 2}))
    (item,) = source.images[0]["annotations"]
    assert item["bbox"] == pytest.approx([5, 5, 10, 10], abs=0.1)
    (issue,) = source.issues
    assert (issue.code, "no area: point" in issue.detail) == ("record-broken", True)


@pytest.mark.parametrize(
    ("attributes", "name"),
    [
        ({}, "object"),
        ({"colour": "red"}, "red"),
        ({"colour": "red", "label": "dog"}, "dog"),
        ({"type": {"cat": True, "dog": False}}, "cat"),
    ],
)
def test_the_class_is_an_attribute_or_the_same_for_all(tmp_path, attributes, name):
    source = load_split(via(tmp_path, RECT, attributes=attributes))
    assert source.classes == (name,)
    assert len(source.notes) == 1


def test_csv_of_via_is_read(tmp_path):
    save_image(tmp_path / "a.png")
    save_image(tmp_path / "b.png")
    header = "filename,file_size,file_attributes,region_count,region_id"
    header += ",region_shape_attributes,region_attributes"
    shape = json.dumps(RECT).replace('"', '""')
    rows = [f'a.png,1,"{{}}",1,0,"{shape}","{{""type"":""cat""}}"', 'b.png,1,"{}",0,0,"{}","{}"']
    write(tmp_path / "via.csv", "\n".join([header, *rows]))
    source = load_split(tmp_path)
    assert (source.format, source.classes, len(source.images)) == ("VIA", ("cat",), 2)
    assert source.images[0]["annotations"][0]["bbox"] == [4, 5, 10, 6]


def test_images_that_are_elsewhere_have_to_be_named(tmp_path):
    file = via(tmp_path, RECT)
    (tmp_path / "a.png").rename(tmp_path / "x.png")
    with pytest.raises(DataError, match=r"its images, such as a\.png"):
        load_split(file)
