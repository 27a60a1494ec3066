"""The table of timm's weights, beside timm."""

import io
import runpy
from pathlib import Path

import pytest
import timm

from d2ext.model_zoo import timm_models
from d2ext.model_zoo.timm_models import timm_entries, timm_model

ROOT = Path(__file__).parents[2]


@pytest.fixture
def another_timm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the table be of another version of timm."""
    monkeypatch.setattr(timm_models, "_is_current", lambda: False)


@pytest.mark.skipif(not timm_models._is_current(), reason="the table is of another timm")
def test_the_table_is_what_timm_says() -> None:
    file = io.StringIO()
    runpy.run_path(str(ROOT / "build_support" / "timm_table.py"))["write"](file)
    assert file.getvalue() == timm_models.TABLE.read_text(encoding="utf-8")


def test_a_name_without_its_tag_is_the_weights_that_timm_prefers() -> None:
    for name in ("resnet50", "convnext_tiny", "tf_efficientnet_lite0"):
        entry, preferred = timm_model(name), timm.get_pretrained_cfg(name)
        assert entry is not None
        assert preferred is not None
        assert entry.name == f"{preferred.architecture}.{preferred.tag}"
        assert entry.backbone == name


def test_each_name_is_listed_once() -> None:
    names = [entry.name for entry in timm_entries()]
    assert len(names) == len(set(names)) > 1500


@pytest.mark.usefixtures("another_timm")
def test_what_the_table_lacks_is_asked_of_another_timm(monkeypatch: pytest.MonkeyPatch) -> None:
    known = timm_model("resnet50.a1_in1k")
    monkeypatch.setattr(timm_models, "_table", dict)
    assert timm_model("resnet50.a1_in1k") == known
    assert timm_model("resnet50.nothing") is None
    assert timm_model("nothing") is None
