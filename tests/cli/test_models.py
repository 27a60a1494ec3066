import subprocess
import sys
from pathlib import Path

import pytest

from d2ext.cli.models import main
from d2ext.errors import ConfigError, WeightsError


def listed(capsys: pytest.CaptureFixture[str], *words: str) -> list[str]:
    main(words)
    return [line.split()[0] for line in capsys.readouterr().out.splitlines()[2:]]


def test_all_are_listed_and_words_filter(capsys: pytest.CaptureFixture[str]) -> None:
    everything = listed(capsys)
    assert {"dyhead_r50_atss_fpn_1x", "efficientnet_lite0", "detr_r50"} <= set(everything)
    assert listed(capsys, "dyhead", "swint") == ["dyhead_swint_atss_fpn_2x_ms"]
    assert len(everything) > len(listed(capsys, "--config")) > 50


def test_a_task_filters(capsys: pytest.CaptureFixture[str]) -> None:
    names = listed(capsys, "--task", "keypoints")
    assert names
    assert all("keypoint" in name for name in names)


def test_models_of_timm_are_listed_where_a_word_is_timm(capsys: pytest.CaptureFixture[str]) -> None:
    assert "resnet50.a1_in1k" in listed(capsys, "timm", "resnet50")
    assert "resnet50.a1_in1k" not in listed(capsys, "resnet50")


def test_names_of_timm_need_no_pytorch(tmp_path: Path) -> None:
    code = "import sys, d2ext.cli.models as m; m.main(['timm']); sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, cwd=tmp_path)


def test_nothing_found_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    main(["nothing_of_that_name"])
    assert "no published weights" in capsys.readouterr().out


def test_get_names_the_place_or_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FVCORE_CACHE", str(tmp_path))
    place = tmp_path / "public" / "dyhead_swint_atss_fpn_2x_ms.pth"
    place.parent.mkdir()
    place.write_bytes(b"weights")
    main(["get", "dyhead_swint"])
    assert capsys.readouterr().out == f"dyhead_swint_atss_fpn_2x_ms: {place}\n"
    assert listed(capsys, "--cached", "dyhead") == ["dyhead_swint_atss_fpn_2x_ms"]
    with pytest.raises(WeightsError, match="d2ext-models"):
        main(["get", "dyhed_swint"])


def test_mistakes_are_one_line_as_in_all_commands(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["--tasks", "boxes"])
    assert stop.value.code == 2
    assert capsys.readouterr().err.startswith("error: unknown flag --tasks; did you mean --task?")
    with pytest.raises(ConfigError, match="name the weights"):
        main(["get"])


def test_it_has_a_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["--version"])
    assert stop.value.code == 0
    assert capsys.readouterr().out.startswith("d2ext ")
