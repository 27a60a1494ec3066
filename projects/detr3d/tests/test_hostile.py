"""Tables and info files from strangers: one message, and nothing outside the output folder."""

import json
import pickle

import pytest

from d2ext.cli import check_data, convert_data
from d2ext.errors import DataError
from d2ext.projects.detr3d.data.formats import find, load
from d2ext.projects.detr3d.data.infos import load_infos
from d2ext.projects.detr3d.data.made_up import write_made_up
from d2ext.projects.detr3d.demo import picture_name


@pytest.fixture
def folder(tmp_path):
    write_made_up(tmp_path / "data", train_scenes=1, validation_length=1)
    return tmp_path / "data"


def changed(folder, table, **values):
    """Change the first record of a table; return the samples and the issues of all parts."""
    (path,) = folder.glob(f"v1.0-*/{table}.json")
    records = json.loads(path.read_text())
    records[0] |= values
    path.write_text(json.dumps(records))
    splits = [load(part) for part in find(folder, None).values()]
    return [issue for split in splits for issue in split.issues]


@pytest.mark.parametrize(
    ("table", "values"),
    [
        ("sample_data", {"ego_pose_token": ["a"]}),
        ("sample_data", {"sample_token": 5}),
        ("sample_data", {"height": 10**400}),
        ("sample", {"timestamp": 10**400}),
        ("sample_annotation", {"attribute_tokens": [["a"]]}),
        ("sample_annotation", {"num_lidar_pts": 10**30}),
        ("sample_annotation", {"instance_token": {}}),
        ("scene", {"name": ["a"]}),
    ],
)
def test_records_with_values_of_other_types_are_issues(folder, table, values):
    assert any("data" in issue.where for issue in changed(folder, table, **values))


@pytest.mark.parametrize("values", [{"token": 5}, {"token": ["a"]}])
def test_tokens_that_are_no_text_are_one_message(folder, values):
    with pytest.raises(DataError, match="no list of records with a token"):
        changed(folder, "sample", **values)


@pytest.mark.parametrize(
    "content",
    [
        {"infos": [1]},
        {"infos": [{}]},
        {"infos": [{"cams": [], "gt_boxes": "a", "gt_names": 3}]},
        {"data_list": [{"images": {}}]},
        {"data_list": ["a"]},
        {"data_list": [None], "metainfo": 3},
    ],
)
def test_info_files_of_other_values_are_one_message(content, tmp_path):
    (tmp_path / "infos.pkl").write_bytes(pickle.dumps(content))
    with pytest.raises(DataError, match=r"infos\.pkl: a sample"):
        load_infos(tmp_path / "infos.pkl")


def test_a_token_names_a_picture_in_the_output_folder_alone():
    assert picture_name("scene-0103-000") == "scene-0103-000.jpg"
    for token in ("../../x", "/etc/x", "a\\b", "a\0b"):
        assert not set(picture_name(token)) & set("/\\\0")


@pytest.mark.parametrize("words", [("--fix",), ("--to", "coco"), ("--to", "yolo")])
def test_boxes_in_space_are_neither_converted_nor_fixed(folder, tmp_path, words):
    command = check_data if words == ("--fix",) else convert_data
    with pytest.raises(DataError, match="nuScenes have no boxes in images"):
        command.main([str(folder), *words, str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()
