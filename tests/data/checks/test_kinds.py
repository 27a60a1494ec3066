"""The table of kinds, and kinds that projects add."""

from pathlib import Path

import pytest
import yaml

from d2ext.data.checks import kinds
from d2ext.data.checks.kinds import KINDS, SEVERITIES, Kind, kind_of, register_kind
from tests.data.checks import test_object_sizes, test_planted, test_planted_formats


def test_every_kind_says_what_is_wrong_and_what_helps():
    for code, kind in KINDS.items():
        assert kind.code == code
        assert kind.severity in SEVERITIES
        assert kind.summary
        assert kind.remedy
        assert str(kind).endswith(".")


def test_every_kind_has_a_planted_case():
    tables = (
        test_planted.PLANTS.values(),
        test_planted_formats.PLANTS.values(),
        test_object_sizes.PLANTS,
    )
    # Projects plant theirs in their own tests; those that are imported by now are in KINDS, too.
    own = yaml.safe_load(Path(kinds.__file__).with_name("kinds.yaml").read_text(encoding="utf-8"))
    assert {plant.code for table in tables for plant in table} == set(own)


@pytest.fixture
def own_kinds(monkeypatch):
    """Forgets what a test registers."""
    monkeypatch.setattr("d2ext.data.checks.kinds.KINDS", dict(KINDS))


@pytest.mark.usefixtures("own_kinds")
def test_a_project_adds_kinds_under_codes_of_its_own():
    kind = Kind("lidar-empty", "warning", "boxes have no points", "remove them")
    register_kind(kind)
    register_kind(kind)
    assert kind_of("lidar-empty") == kind
    with pytest.raises(ValueError, match="this code is taken"):
        register_kind(kind._replace(severity="error"))
    with pytest.raises(ValueError, match="severity 'bad'"):
        register_kind(Kind("lidar-full", "bad", "", ""))


def test_an_unknown_code_names_the_way_to_add_it():
    with pytest.raises(ValueError, match="lidar-none: no kind of issue has this code; see"):
        kind_of("lidar-none")
