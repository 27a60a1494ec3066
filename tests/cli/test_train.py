"""The life of a run: numbered, stopped, resumed and evaluated with few flags."""

import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from d2ext.cli.train import main
from d2ext.data.catalog import replace_datasets
from d2ext.engine.trainer import Trainer
from d2ext.errors import ConfigError, Interrupted, UserError, WeightsError
from tests.helpers.training import write_data

SMALL = ("MODEL.DYHEAD.NUM_BLOCKS", "1", "MODEL.FPN.OUT_CHANNELS", "32", "TEST.PICTURES", "0")
BATCH = ("--device", "cpu", "--batch", "2")


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_data(tmp_path / "a")
    write_data(tmp_path / "b", count=8)
    yield
    replace_datasets([])


def train(*words):
    main([*words, *BATCH, *SMALL])


A = ("--train", "a/annotations.json", "--val", "0.34")
B = ("--train", "b/annotations.json", "--val", "25%")


def test_a_second_training_on_other_data_has_its_own_folder_in_the_same_process(tmp_path, capsys):
    handlers = logging.getLogger("d2ext").handlers[:]  # a trainer of another test may have left one
    train(*A, "--epochs", "1")
    first = (tmp_path / "output" / "config.yaml").read_bytes()
    capsys.readouterr()
    train(*B, "--epochs", "1")
    assert (tmp_path / "output" / "config.yaml").read_bytes() == first
    printed = capsys.readouterr().out.splitlines()
    before = next(n for n, line in enumerate(printed) if "total_loss" in line)
    assert before <= 40
    assert not any("SWIN" in line for line in printed)
    assert any("output holds another run: this one is in output_2" in line for line in printed)
    assert any("6 images" in line for line in printed[:before])
    end = "\n".join(printed[-6:])
    assert "trained for 3 iterations; best bbox/AP" in end
    assert "tools/demo.py --weights output_2/model_" in end
    log = (tmp_path / "output_2" / "log.txt").read_text(encoding="utf-8")
    assert "environment:" in log
    assert "NUM_CLASSES: 2" in log
    assert logging.getLogger("d2ext").handlers == handlers


def test_ctrl_c_saves_and_says_how_to_go_on_and_resume_needs_no_flag(monkeypatch, capsys):
    step, handler = Trainer.run_step, signal.getsignal(signal.SIGINT)

    def interrupted(self):
        step(self)
        if self.iter == 2:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Trainer, "run_step", interrupted)
    with pytest.raises(Interrupted, match=r"go on with: .* --resume --output output") as stop:
        train(*A, "--epochs", "3", "TEST.EVAL_PERIOD", "100", "SOLVER.GAMMA", "0.5")
    assert stop.value.signal == signal.SIGINT
    assert signal.getsignal(signal.SIGINT) is handler
    saved = torch.load("output/model_0000002.pth", weights_only=True)
    assert saved["iteration"] == 2
    monkeypatch.setattr(Trainer, "run_step", step)
    main(["--resume", "--quiet"])
    final = torch.load("output/model_final.pth", weights_only=True)
    assert final["iteration"] == 5
    assert "GAMMA: 0.5" in final["config"]
    assert not os.path.exists("output_2")
    for words in (B, ("--val", "0.5"), ("DATASETS.TEST", "()")):
        with pytest.raises(ConfigError, match="not the data of this run"):
            train("--resume", *words)
    capsys.readouterr()
    main(["--eval-only", "--weights", "output/model_final.pth"])
    printed = capsys.readouterr().out
    assert "the validation data of the training: a/annotations.json (a share of 0.34)" in printed
    assert "results are in output/eval" in printed


def test_weights_that_are_not_finite_are_named(tmp_path):
    train(*A, "--epochs", "1", "--quiet")
    content = torch.load("output/model_final.pth", weights_only=True)
    for tensor in content["model"].values():
        tensor.fill_(float("nan")) if tensor.is_floating_point() else None
    torch.save(content, "bad.pth")
    with pytest.raises(WeightsError, match=r"bad\.pth: \d+ weights are not finite"):
        main(["--eval-only", "--weights", "bad.pth"])
    with pytest.raises(UserError, match=r"iteration 0: .*weights are not finite .*BASE_LR"):
        train(*A, "--epochs", "1", "--weights", "bad.pth")
    assert not os.path.exists("output_2/log.txt")  # it had no result


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--resume", "--output", "nothing"], "no checkpoint in nothing"),
        (["--eval-only"], "no weights: --weights FILE"),
        ([*A, "--weights", "a/annotations.json"], "not a file of weights"),
        ([*A, "--config-file", "a/annotations.json"], "data, not a config"),
        ([*A, "--config-file", "configs/dyhed_swint.yaml"], "Did you mean configs/dyhead_swint"),
        (["--train", "a:a/annotations.json"], "the annotations come first"),
        ([*A, "solver.max_epochs", "3"], "did you mean SOLVER.MAX_EPOCHS?"),
        ([*A, "SOLVER.MAX_ITER", "abc"], "must be a whole number, got 'abc'"),
        ([*A, "SOLVER.BASE_LR", "-1"], "must be above 0"),
        ([*A, "MODEL.DEVICE", "gpu"], "no device"),
        ([*A, "MODEL.TIMM.NAME", "regnetx_02"], "similar names: .*regnetx_002"),
        ([*A, "MODEL.PIXEL_MEAN", "[1.0]"], "images of INPUT.FORMAT RGB have 3"),
        ([*A, "SOLVER.LR_SCHEDULER_NAME", "Foo"], "cannot be built"),
    ],
)
def test_a_mistake_is_a_message_and_leaves_no_folder(words, said):
    device = [] if "MODEL.DEVICE" in words else ["--device", "cpu"]
    with pytest.raises(UserError, match=said):
        main([*words, *device, *SMALL])
    assert not os.path.exists("output/log.txt")  # the next run takes the folder
    assert not os.path.exists("nothing")


@pytest.mark.parametrize("weights", ["dyhead_swint", "resnet50.a1_in1k"])
def test_weights_that_cannot_be_had_are_said_before_pytorch_is_imported(
    tmp_path: Path, weights: str
) -> None:
    code = (
        "import sys\nfrom d2ext.cli.train import main\n"
        f"try:\n    main(['--weights', {weights!r}])\n"
        "except Exception as error:\n    print(error)\nsys.exit('torch' in sys.modules)"
    )
    env = {**os.environ, "D2EXT_OFFLINE": "1", "D2EXT_CACHE": str(tmp_path / "cache")}
    env.pop("FVCORE_CACHE", None)
    run = [sys.executable, "-c", code]
    done = subprocess.run(run, env=env, check=True, capture_output=True, text=True, cwd=tmp_path)
    assert f"put the file at {tmp_path / 'cache'}" in done.stdout
    assert not (tmp_path / "cache").exists()
