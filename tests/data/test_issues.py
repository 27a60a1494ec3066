"""Issues as plain values."""

import json
import math
from pathlib import Path

from d2ext.data.issues import Issue


def test_an_issue_is_written_as_plain_json():
    issue = Issue(
        "box-empty", "all.json:3", "no area", "train", Path("a.png"), (1.0, 2.0), record=3
    )
    assert json.loads(json.dumps(issue.as_json(), allow_nan=False)) == {
        "code": "box-empty",
        "split": "train",
        "where": "all.json:3",
        "record": 3,
        "image": "a.png",
        "box": [1.0, 2.0],
        "detail": "no area",
    }


def test_numbers_that_are_not_finite_become_text():
    written = Issue("box-nonfinite", "x", box=(1.0, math.nan, math.inf), record=-math.inf).as_json()
    assert (written["box"], written["record"]) == ([1.0, "nan", "inf"], "-inf")
