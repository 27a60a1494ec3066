"""The default trainer on a model of one weight."""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import d2ext  # noqa: F401
from detectron2.config import CfgNode, get_cfg
from detectron2.engine import (
    DefaultPredictor,
    DefaultTrainer,
    default_argument_parser,
    default_setup,
    default_writers,
    hooks,
)
from detectron2.evaluation import DatasetEvaluator
from detectron2.modeling import META_ARCH_REGISTRY


@META_ARCH_REGISTRY.register()
class OneWeight(nn.Module):
    """A model with loss = w * x in training and the identity in inference."""

    def __init__(self, cfg: CfgNode) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.ones(1))

    def forward(self, x):
        return {"loss_w": (self.w * x).sum()} if self.training else x


class Batches:
    def __iter__(self) -> Iterator[torch.Tensor]:
        while True:
            yield torch.ones(1)


class CountingEvaluator(DatasetEvaluator):
    def reset(self) -> None:
        self.seen = 0

    def process(self, inputs, outputs) -> None:
        self.seen += len(outputs)

    def evaluate(self) -> dict:
        return {"bbox": {"AP": float(self.seen)}}


class Trainer(DefaultTrainer):
    @classmethod
    def build_train_loader(cls, cfg: CfgNode) -> Batches:
        return Batches()

    @classmethod
    def build_test_loader(cls, cfg: CfgNode, dataset_name: str) -> list:
        return [[{"image": 1}, {"image": 2}]]

    @classmethod
    def build_evaluator(cls, cfg: CfgNode, dataset_name: str) -> DatasetEvaluator:
        return CountingEvaluator()


@pytest.fixture
def cfg(tmp_path: Path) -> CfgNode:
    cfg = get_cfg()
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.META_ARCHITECTURE = "OneWeight"
    cfg.OUTPUT_DIR = str(tmp_path / "output")
    cfg.SOLVER.MAX_ITER = 4
    cfg.SOLVER.WARMUP_ITERS = 0
    cfg.SOLVER.STEPS = ()
    cfg.SOLVER.BASE_LR = 0.1
    cfg.SOLVER.MOMENTUM = 0.0
    cfg.SOLVER.WEIGHT_DECAY = 0.0
    cfg.SOLVER.CHECKPOINT_PERIOD = 2
    cfg.DATASETS.TEST = ("some_set",)
    return cfg


def test_training_writes_weights_metrics_and_checkpoints(cfg: CfgNode):
    Path(cfg.OUTPUT_DIR).mkdir()
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=False)
    trainer.train()
    assert trainer.model.w.item() == pytest.approx(1 - 4 * 0.1)
    output = Path(cfg.OUTPUT_DIR)
    names = {path.name for path in output.iterdir() if not path.name.startswith("events")}
    assert names == {
        "last_checkpoint", "metrics.json", "model_0000001.pth", "model_0000003.pth",
        "model_final.pth",
    }  # fmt: skip
    assert list(output.glob("events.out.tfevents.*"))
    lines = [json.loads(line) for line in (output / "metrics.json").read_text().splitlines()]
    assert lines[0]["iteration"] == 3
    assert lines[0]["total_loss"] == pytest.approx(np.median([1, 0.9, 0.8, 0.7]))
    assert lines[0]["lr"] == pytest.approx(0.1)
    assert lines[1]["bbox/AP"] == 2.0


def test_resuming_continues_after_the_last_iteration(cfg: CfgNode):
    cfg.TEST.EVAL_PERIOD = 0
    Trainer(cfg).train()
    cfg.SOLVER.MAX_ITER = 6
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=True)
    assert trainer.start_iter == 4
    trainer.train()
    assert trainer.model.w.item() == pytest.approx(1 - 6 * 0.1)
    assert trainer.scheduler.last_epoch == 6


def test_without_resuming_only_the_weights_are_loaded(cfg: CfgNode):
    Trainer(cfg).train()
    cfg.MODEL.WEIGHTS = str(Path(cfg.OUTPUT_DIR) / "model_final.pth")
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=False)
    assert trainer.start_iter == 0
    assert trainer.model.w.item() == pytest.approx(0.6)


def test_the_hooks_have_the_documented_order(cfg: CfgNode):
    kinds = [type(hook) for hook in Trainer(cfg).build_hooks() if hook is not None]
    assert kinds == [
        hooks.IterationTimer,
        hooks.LRScheduler,
        hooks.PeriodicCheckpointer,
        hooks.EvalHook,
        hooks.PeriodicWriter,
    ]


def test_expected_results_are_verified_at_the_end(cfg: CfgNode):
    cfg.TEST.EXPECTED_RESULTS = [["bbox", "AP", 2.0, 0.1]]
    assert Trainer(cfg).train() == {"bbox": {"AP": 2.0}}
    cfg.TEST.EXPECTED_RESULTS = [["bbox", "AP", 9.0, 0.1]]
    with pytest.raises(SystemExit):
        Trainer(cfg).train()


def test_results_of_several_datasets_are_keyed_by_name(cfg: CfgNode):
    cfg.DATASETS.TEST = ("one", "other")
    results = Trainer.test(cfg, OneWeight(cfg))
    assert results == {"one": {"bbox": {"AP": 2.0}}, "other": {"bbox": {"AP": 2.0}}}


def test_without_an_evaluator_the_results_are_empty(cfg: CfgNode):
    class Plain(Trainer):
        build_evaluator = DefaultTrainer.build_evaluator

    assert Plain.test(cfg, OneWeight(cfg)) == {}


def test_the_schedule_follows_the_number_of_processes(cfg: CfgNode):
    cfg.SOLVER.REFERENCE_WORLD_SIZE = 8
    cfg.SOLVER.IMS_PER_BATCH = 16
    cfg.SOLVER.BASE_LR = 0.1
    cfg.SOLVER.MAX_ITER = 5000
    cfg.SOLVER.STEPS = (4000,)
    cfg.SOLVER.CHECKPOINT_PERIOD = 1000
    cfg.SOLVER.WARMUP_ITERS = 100
    cfg.TEST.EVAL_PERIOD = 500
    scaled = DefaultTrainer.auto_scale_workers(cfg, 16)
    solver = scaled.SOLVER
    assert solver.IMS_PER_BATCH == 32
    assert pytest.approx(0.2) == solver.BASE_LR
    assert (solver.MAX_ITER, solver.STEPS, solver.WARMUP_ITERS) == (2500, (2000,), 50)
    assert (solver.CHECKPOINT_PERIOD, scaled.TEST.EVAL_PERIOD) == (500, 250)
    assert solver.REFERENCE_WORLD_SIZE == 16
    assert cfg.SOLVER.IMS_PER_BATCH == 16


def test_a_schedule_for_any_number_of_processes_is_left_alone(cfg: CfgNode):
    assert DefaultTrainer.auto_scale_workers(cfg, 16) is cfg


def test_setup_saves_the_config_and_logs_it(cfg: CfgNode, tmp_path: Path):
    cfg.SEED = 5
    given = tmp_path / "given.yaml"
    given.write_text("VERSION: 2\nSEED: 5\n")
    default_setup(cfg, argparse.Namespace(config_file=str(given), eval_only=False))
    draw = torch.rand(1)
    output = Path(cfg.OUTPUT_DIR)
    again = get_cfg()
    again.merge_from_file(str(output / "config.yaml"))
    assert (again.SEED, again.SOLVER, again.DATASETS) == (5, cfg.SOLVER, cfg.DATASETS)
    log = (output / "log.txt").read_text()
    for part in ("Rank of current process: 0. World size: 1", "Environment info", "SEED"):
        assert part in log
    default_setup(cfg, argparse.Namespace())
    assert torch.equal(torch.rand(1), draw)


def test_arguments_have_the_documented_names_and_defaults():
    args = default_argument_parser().parse_args(["--config-file", "a.yaml", "SEED", "1"])
    assert (args.config_file, args.opts) == ("a.yaml", ["SEED", "1"])
    assert (args.num_gpus, args.num_machines, args.machine_rank) == (1, 1, 0)
    assert (args.resume, args.eval_only) == (False, False)
    assert args.dist_url.startswith("tcp://127.0.0.1:")


def test_default_writers_are_log_json_and_tensorboard(tmp_path: Path):
    names = [type(writer).__name__ for writer in default_writers(str(tmp_path), 10)]
    assert names == ["CommonMetricPrinter", "JSONWriter", "TensorboardXWriter"]


class TestPredictor:
    @pytest.fixture
    def weights(self, cfg: CfgNode) -> CfgNode:
        torch.save({"model": {"w": torch.tensor([3.0])}}, f"{cfg.OUTPUT_DIR}.pth")
        cfg.MODEL.WEIGHTS = f"{cfg.OUTPUT_DIR}.pth"
        cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST = 8, 100
        return cfg

    def test_the_predictor_loads_the_weights_and_resizes_the_image(self, weights: CfgNode):
        predictor = DefaultPredictor(weights)
        assert predictor.model.w.item() == 3
        out = predictor(np.zeros((4, 6, 3), dtype=np.uint8))
        assert out["image"].shape == (3, 8, 12)
        assert out["image"].dtype == torch.float32
        assert (out["height"], out["width"]) == (4, 6)

    @pytest.mark.parametrize(("order", "first"), [("BGR", 10), ("RGB", 30)])
    def test_the_predictor_converts_channels_to_the_models_order(
        self, weights: CfgNode, order: str, first: int
    ):
        weights.INPUT.FORMAT = order
        image = np.zeros((8, 8, 3), dtype=np.uint8)
        image[..., 0], image[..., 2] = 10, 30
        assert DefaultPredictor(weights)(image)["image"][0].unique().tolist() == [first]
