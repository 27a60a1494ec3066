"""The reference of config keys."""

import pytest

from d2ext.cli.config import main
from d2ext.config.reference import all_keys, as_table, comments_of_keys
from d2ext.errors import ConfigError

SOURCE = """
def add_config(cfg):
    cfg.A.B = 1  # beside it
    part = cfg.MODEL.PART = CfgNode()  # a section
    part.C, part.D = 2, 3  # both
    # above it,
    # in two lines
    part.LONG = (
        4
    )
    other = 5  # no key
"""

LISTED = """
VALUES: dict = {
    "A": {"B": 1, "C": 2},  # the last on the line
    "D": {
        # above
        "E": [3],
        "F": 4,  # beside
    },
}
"""


def test_comments_belong_to_the_keys_that_functions_assign():
    assert dict(comments_of_keys(SOURCE)) == {
        "A.B": "beside it",
        "MODEL.PART": "a section",
        "MODEL.PART.C": "both",
        "MODEL.PART.D": "both",
        "MODEL.PART.LONG": "above it, in two lines",
    }


def test_comments_belong_to_the_keys_of_a_dict():
    found = dict(comments_of_keys(LISTED))
    assert found["D.E"] == "above"
    assert found["D.F"] == "beside"


@pytest.fixture(scope="module")
def keys():
    return {info.key: info for info in all_keys()}


def test_every_key_of_d2ext_has_a_meaning(keys):
    assert not [key for key, info in keys.items() if info.source == "d2ext" and not info.meaning]


def test_keys_of_all_sources_are_there(keys):
    assert keys["MODEL.FPN.OUT_CHANNELS"].default == "256"
    assert keys["MODEL.FPN.OUT_CHANNELS"].meaning == "channels of every level"
    assert {info.source for info in keys.values()} >= {"detectron2", "d2ext", "detr", "detr3d"}
    assert keys["INPUT.ROTATION"].meaning.endswith("in degrees")


def test_a_table_has_a_row_for_each_key(keys):
    lines = as_table(list(keys.values())).splitlines()
    assert len(lines) == len(keys) + 2
    assert {line.replace("\\|", "").count("|") for line in lines} == {4}


@pytest.mark.parametrize("pattern", ["mosaic", "INPUT.MOS*", "mosaic of four"])
def test_the_command_prints_the_keys_that_fit(pattern, capsys):
    main(["--keys", pattern])
    assert "INPUT.MOSAIC = 0.0  # probability of a mosaic of four images" in capsys.readouterr().out


def test_a_pattern_without_a_key_is_an_error():
    with pytest.raises(ConfigError, match="--keys nothing"):
        main(["--keys", "nothing like this"])
