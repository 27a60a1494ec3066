"""The conversion command, as `tools/convert_weights.py` calls it."""

import hashlib
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from d2ext.cli.convert_weights import main
from d2ext.errors import UserError, WeightsError

TOOL = Path(__file__).parents[2] / "tools" / "convert_weights.py"
SMALL = [
    *("MODEL.SWIN.EMBED_DIM", "16", "MODEL.SWIN.DEPTHS", "[1, 1, 1, 1]"),
    *("MODEL.SWIN.NUM_HEADS", "[1, 1, 2, 2]", "MODEL.FPN.OUT_CHANNELS", "32"),
    *("MODEL.DYHEAD.NUM_BLOCKS", "1"),
]
CONFIG = ["--config-file", "configs/dyhead_swint.yaml"]
STEM, TABLE = "patch_embed.proj.weight", "layers.0.blocks.0.attn.relative_position_bias_table"


@pytest.fixture
def swin(tmp_path: Path) -> Path:
    weights = {STEM: torch.randn(16, 3, 4, 4), TABLE: torch.randn(169, 1)}
    weights |= {"layers.0.blocks.0.attn_mask": torch.zeros(2), "head.bias": torch.zeros(2)}
    torch.save({"model": weights}, tmp_path / "swin.pth")
    return tmp_path / "swin.pth"


def written(path: Path) -> dict[str, Tensor]:
    return torch.load(path, weights_only=True)["model"]


def test_a_file_is_converted_and_summed_up(
    swin: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    digest = hashlib.sha256(swin.read_bytes()).hexdigest()
    main([str(swin), "--to", str(tmp_path / "out.pth"), "--sha256", digest])
    assert list(written(tmp_path / "out.pth")) == [STEM, TABLE]
    assert f"{swin}: layout Swin-Transformer: 4 tensors, 2 unused" in capsys.readouterr().out


def test_what_was_converted_is_converted_to_itself(swin: Path, tmp_path: Path) -> None:
    main([str(swin), "--to", str(tmp_path / "1.pth")])
    main([str(tmp_path / "1.pth"), "--to", str(tmp_path / "2.pth")])
    first, second = written(tmp_path / "1.pth"), written(tmp_path / "2.pth")
    assert list(first) == list(second)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_with_a_config_names_are_the_models_and_what_stays_fresh_is_listed(
    swin: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main([str(swin), "--to", str(tmp_path / "out.pth"), *CONFIG, *SMALL])
    prefix = "backbone.backbone.bottom_up."
    assert list(written(tmp_path / "out.pth")) == [prefix + STEM, prefix + TABLE]
    said = capsys.readouterr().out
    assert "layout Swin-Transformer: 2 tensors matched" in said
    assert "left fresh, not in the file: backbone." in said
    assert "2 unused, not needed: head.bias, layers.0.blocks.0.attn_mask" in said


def test_a_head_of_another_class_count_is_said_to_stay_fresh(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = {"head.cls_logits.bias": torch.zeros(7), "head.scales.0.scale": torch.ones(1)}
    torch.save(weights, tmp_path / "atss.pth")
    source, out = str(tmp_path / "atss.pth"), str(tmp_path / "out.pth")
    main([source, "--to", out, *CONFIG, *SMALL, "MODEL.ATSS.NUM_CLASSES", "3"])
    said = capsys.readouterr().out
    assert "1 left fresh, of another shape: head.cls_logits.bias (7,) in the file, (3,)" in said


def test_an_unknown_layout_lists_the_known_ones_and_the_first_names(tmp_path: Path) -> None:
    torch.save({f"odd.{n}": torch.zeros(1) for n in range(9)}, tmp_path / "a.pth")
    with pytest.raises(WeightsError, match=r"first names: odd\.0, .*odd\.4\. .*AdelaiDet FCOS,"):
        main([str(tmp_path / "a.pth"), "--to", str(tmp_path / "out.pth")])
    with pytest.raises(WeightsError, match=r"another layout than .*DynamicHead(.|\n)*odd\.\*"):
        main([str(tmp_path / "a.pth"), "--to", str(tmp_path / "out.pth"), *CONFIG, *SMALL])
    assert not (tmp_path / "out.pth").exists()


def test_nothing_is_written_for_another_checksum(swin: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="SHA-256"):
        main([str(swin), "--to", str(tmp_path / "out.pth"), "--sha256", "0" * 64])
    assert not (tmp_path / "out.pth").exists()


def test_a_file_to_write_needs_its_ending(swin: Path) -> None:
    with pytest.raises(SystemExit):
        main([str(swin), "--to", "out.npz"])


@pytest.mark.parametrize("name", ["evil.pkl", "evil.pth"])
def test_a_hostile_file_runs_nothing(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Evil:
        def __reduce__(self) -> tuple:
            return os.mkdir, ("made_by_a_pickle",)

    monkeypatch.chdir(tmp_path)
    Path(name).write_bytes(pickle.dumps({"model": {"conv1_w": Evil()}}, protocol=2))
    with pytest.raises(UserError, match=f"{name}: "):
        main([name, "--to", "out.pth"])
    assert not Path("made_by_a_pickle").exists()


def test_the_tool_explains_itself_and_its_errors_are_one_message(tmp_path: Path) -> None:
    told = subprocess.run([sys.executable, TOOL, "--help"], capture_output=True, text=True)
    assert "#sha256=" in told.stdout
    assert "AdelaiDet FCOS" in told.stdout
    command = [sys.executable, TOOL, str(tmp_path / "no.pth"), "--to", str(tmp_path / "out.pth")]
    failed = subprocess.run(command, capture_output=True, text=True)
    assert failed.returncode == 2
    assert "no.pth: no such file of weights" in failed.stderr
    assert "Traceback" not in failed.stderr


def test_layouts_of_projects_are_known_without_a_config(tmp_path: Path) -> None:
    names = ["backbone.first_conv.0.weight", "output_reg_layers.weight"]
    torch.save({name: torch.zeros(1) for name in names}, tmp_path / "yolo.pth")
    command = [sys.executable, str(TOOL), str(tmp_path / "yolo.pth"), "--to"]
    subprocess.run([*command, str(tmp_path / "out.pth")], check=True, capture_output=True)
    assert list(written(tmp_path / "out.pth")) == [
        "backbone.bottom_up.stem.weight",
        "head.box.weight",
    ]
