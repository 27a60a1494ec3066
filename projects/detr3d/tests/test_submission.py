"""A submission that breaks a rule of the format is refused with the place and the rule."""

import json
from copy import deepcopy

import pytest

from d2ext.errors import DataError
from d2ext.projects.detr3d.evaluation.submission import META, read_submission

BOX = {
    "sample_token": "a",
    "translation": [1.0, 2, 3],
    "size": [2.0, 4, 1.5],
    "rotation": [1.0, 0, 0, 0],
    "velocity": [0.5, 0],
    "detection_name": "car",
    "detection_score": 0.75,
    "attribute_name": "vehicle.parked",
}
GOOD = {"meta": META, "results": {"a": [BOX], "b": []}}


def read(tmp_path, content, tokens=("a", "b")):
    path = tmp_path / "submission.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return read_submission(path, list(tokens))


def with_box(**changes):
    content = deepcopy(GOOD)
    content["results"]["a"][0] |= changes
    return content


def test_a_valid_submission_is_read_with_samples_by_number(tmp_path):
    content = deepcopy(GOOD)
    content["results"]["b"] = [BOX | {"sample_token": "b", "detection_name": "barrier"}] * 2
    content["results"]["b"][0]["attribute_name"] = ""
    boxes = read(tmp_path, content)
    assert boxes.sample.tolist() == [0, 1, 1]
    assert boxes.label.tolist() == [0, 5, 5]
    assert boxes.translation[0].tolist() == [1, 2, 3]
    assert boxes.score.tolist() == [0.75] * 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sample_token": "b"}, r"results\.a\[0\]: sample_token is 'b', not 'a'"),
        ({"translation": [1, 2]}, "translation must be 3 finite numbers"),
        ({"translation": [1, 2, float("nan")]}, "translation must be 3 finite numbers"),
        ({"rotation": "1 0 0 0"}, "rotation must be 4 finite numbers"),
        ({"rotation": [0, 0, 0, 0]}, "rotation must not be zero"),
        ({"velocity": [True, 0]}, "velocity must be 2 finite numbers"),
        ({"velocity": None}, "velocity must be 2 finite numbers"),
        ({"size": [2, 0, 1]}, "size must be positive"),
        ({"detection_name": "van"}, "detection_name 'van' is no class"),
        ({"detection_name": ["car"]}, r"detection_name \['car'\] is no class"),
        ({"detection_score": "0.5"}, "detection_score must be a finite number"),
        ({"detection_score": float("inf")}, "detection_score must be a finite number"),
        ({"attribute_name": "vehicle.flying"}, "attribute_name 'vehicle.flying' is unknown"),
        ({"attribute_name": {}}, "attribute_name {} is unknown"),
    ],
)
def test_a_box_that_breaks_a_rule_is_named(tmp_path, changes, message):
    with pytest.raises(DataError, match=message):
        read(tmp_path, with_box(**changes))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "no submission"),
        ("[]", "has the keys meta and results"),
        ({"meta": META}, "has the keys meta and results"),
        ({"meta": META, "results": []}, "has the keys meta and results"),
        ({"meta": {**META, "use_map": 0}, "results": {}}, "use_map"),
        (
            {**GOOD, "results": {"a": []}},
            "lack 1 samples of the split and have 0 others, such as b",
        ),
        ({**GOOD, "results": {"a": [], "b": [], "c": []}}, "lack 0 .* and have 1 others"),
        ({**GOOD, "results": {"a": {}, "b": []}}, r"results\.a: must be a list of at most 500"),
        ({**GOOD, "results": {"a": [BOX] * 501, "b": []}}, "a list of at most 500 boxes"),
        ({**GOOD, "results": {"a": [7], "b": []}}, r"results\.a\[0\]: is no object"),
    ],
)
def test_a_file_that_breaks_a_rule_is_refused(tmp_path, content, message):
    with pytest.raises(DataError, match=message):
        read(tmp_path, content)


def test_the_longest_attribute_is_kept_whole(tmp_path):
    name = "pedestrian.sitting_lying_down"
    content = with_box(detection_name="pedestrian", attribute_name=name)
    assert read(tmp_path, content).attribute.tolist() == [name]


def test_500_boxes_of_a_sample_are_allowed(tmp_path):
    assert len(read(tmp_path, {**GOOD, "results": {"a": [BOX] * 500, "b": []}})) == 500
