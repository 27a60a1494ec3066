"""The commands of the README on a model so small that they take seconds."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from d2ext.cli import demo
from d2ext.cli.train import main
from detectron2.data import DatasetCatalog
from tests.helpers.training import CLASSES, write_data

TOOLS = Path(__file__).parents[2] / "tools"
SMALL = [
    *("MODEL.DEVICE", "cpu"),
    *("MODEL.SWIN.EMBED_DIM", "16", "MODEL.SWIN.DEPTHS", "[1, 1, 1, 1]"),
    *("MODEL.SWIN.NUM_HEADS", "[1, 1, 2, 2]", "MODEL.FPN.OUT_CHANNELS", "32"),
    *("MODEL.DYHEAD.NUM_BLOCKS", "1"),
    *("MODEL.ATSS.SCORE_THRESH_TEST", "0.001", "INPUT.MIN_SIZE_TRAIN", "(64,)"),
    *("SOLVER.MAX_EPOCHS", "2", "SOLVER.IMS_PER_BATCH", "2", "TEST.EVAL_PERIOD", "3"),
]


@pytest.fixture(autouse=True)
def _names_are_free():
    yield
    for name in {"train", "val"} & set(DatasetCatalog.list()):
        DatasetCatalog.remove(name)


@pytest.fixture
def flag(tmp_path):
    write_data(tmp_path / "data")
    return f"{tmp_path / 'data' / 'annotations.json'}:{tmp_path / 'data'}"


def train(folder, flag, *words):
    config = ["--config-file", "configs/dyhead_swint.yaml", "--num-gpus", "1"]
    data = ["--train", flag, "--val", flag]
    main([*config, *data, *words, *SMALL, "OUTPUT_DIR", str(folder)])


def test_training_leaves_what_the_readme_says(tmp_path, flag):
    out = tmp_path / "out"
    train(out, flag)
    expected = (
        "class_counts.png curves.png predictions_val.jpg model_final.pth model_best.pth "
        "last_checkpoint config.yaml log.txt metrics.json "
        "inference/val/coco_instances_results.json inference/val/instances_predictions.pth"
    )
    assert [name for name in expected.split() if not (out / name).exists()] == []
    assert list(out.glob("events.out.tfevents.*"))
    lines = [json.loads(line) for line in (out / "metrics.json").read_text().splitlines()]
    assert "total_loss" in lines[0] or "total_loss" in lines[1]
    assert "bbox/AP" in lines[-1]
    config = yaml.safe_load((out / "config.yaml").read_text(encoding="utf-8"))
    assert config["AUTO"] == []
    assert config["MODEL"]["ATSS"]["NUM_CLASSES"] == len(CLASSES)


def test_the_dumped_config_repeats_the_run(tmp_path, flag):
    first, second = tmp_path / "first", tmp_path / "second"
    train(first, flag)
    main(["--config-file", str(first / "config.yaml"), "OUTPUT_DIR", str(second)])
    weights = [
        torch.load(f / "model_final.pth", weights_only=True)["model"] for f in (first, second)
    ]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_a_trained_model_is_evaluated_and_predicts(tmp_path, flag):
    out = tmp_path / "out"
    train(out, flag)
    before = (out / "config.yaml").read_bytes()
    weights = ["MODEL.WEIGHTS", str(out / "model_final.pth")]
    train(tmp_path / "eval", flag, "--eval-only", *weights)
    assert (tmp_path / "eval" / "predictions_val.jpg").exists()
    assert (out / "config.yaml").read_bytes() == before
    images = ["--input", str(tmp_path / "data"), "--output", str(tmp_path / "found")]
    config = ["--config-file", str(out / "config.yaml")]
    demo.main([*config, *images, "--confidence", "0", *weights])
    found = json.loads((tmp_path / "found" / "predictions.json").read_text(encoding="utf-8"))
    assert found["classes"] == list(CLASSES)
    assert len(found["images"]) == 6


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--config-file", "no.yaml"], "no.yaml: no such config file"),
        (["--config-file", "configs/dyhead_swint.yaml", "SOLVER.LR", "1"], "unknown key SOLVER.LR"),
        (["--config-file", "configs/dyhead_swint.yaml", "--train", "no.json:no"], "no.json"),
    ],
)
def test_a_mistake_is_one_message_and_exit_status_2(tmp_path, words, said):
    command = [sys.executable, str(TOOLS / "train_net.py"), *words, "OUTPUT_DIR", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=TOOLS.parent, timeout=300)
    assert done.returncode == 2
    message = done.stderr.strip().splitlines()[-1]
    assert message.startswith("error: ")
    assert said in message
    assert "Traceback" not in done.stderr
