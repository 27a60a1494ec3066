import json
import logging
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import torch

from d2ext.checkpoint import read_metadata
from d2ext.config import get_cfg
from d2ext.engine.train_step import Batch
from d2ext.engine.trainer import Trainer
from d2ext.errors import UserError, WeightsError
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.engine import DefaultTrainer, HookBase
from detectron2.utils.events import get_event_storage
from tests.helpers.training import CLASSES, TinyTrainer, tiny_cfg

Make = Callable[..., TinyTrainer]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    def make(*overrides: Any, kind: type[TinyTrainer] = TinyTrainer) -> TinyTrainer:
        torch.manual_seed(0)  # of the weights that a training starts from
        return kind(tiny_cfg(tmp_path, *overrides))

    return make


def run(trainer: TinyTrainer, resume: bool = False) -> TinyTrainer:
    trainer.resume_or_load(resume=resume)
    trainer.train()
    return trainer


def rows(trainer: TinyTrainer) -> list[dict[str, float]]:
    lines = Path(trainer.cfg.OUTPUT_DIR, "metrics.json").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def weights(trainer: TinyTrainer, name: str) -> dict[str, torch.Tensor]:
    path = Path(trainer.cfg.OUTPUT_DIR, f"{name}.pth")
    return torch.load(path, weights_only=True)["model"]


class Stop(HookBase):
    """Fails at the end of an iteration, as a full disk or a person would."""

    def __init__(self, iteration: int, error: BaseException) -> None:
        self.iteration, self.error = iteration, error

    def after_step(self) -> None:
        if self.trainer.iter == self.iteration:
            raise self.error


def test_a_training_writes_checkpoints_metrics_and_pictures(make: Make) -> None:
    class Drawing(TinyTrainer):
        build_last_hooks = Trainer.build_last_hooks

    trainer = run(make(kind=Drawing))
    left = {path.name for path in Path(trainer.cfg.OUTPUT_DIR).iterdir()}
    files = {"metrics.json", "last_checkpoint", "model_best.pth", "model_final.pth"}
    assert files | {"model_0000019.pth", "curves.png", "class_counts.png"} <= left
    assert any(name.startswith("events.out.tfevents") for name in left)
    evaluated = [row["iteration"] for row in rows(trainer) if "bbox/AP" in row]
    assert evaluated == [5, 11, 17, 20]
    metadata = read_metadata(Path(trainer.cfg.OUTPUT_DIR, "model_final.pth"))
    assert metadata["thing_classes"] == list(CLASSES)
    assert get_cfg().load_cfg(metadata["config"]).SOLVER.MAX_ITER == 20


def test_best_is_the_evaluation_with_the_highest_metric(make: Make) -> None:
    trainer = run(make())
    best = torch.load(Path(trainer.cfg.OUTPUT_DIR, "model_best.pth"), weights_only=True)
    measured = {row["iteration"]: row["bbox/AP"] for row in rows(trainer) if "bbox/AP" in row}
    assert best["value"] == max(measured.values())
    assert measured[best["iteration"]] == best["value"]


def test_the_moving_average_is_evaluated_and_saved_for_use(make: Make) -> None:
    trainer = run(make("SOLVER.EMA.ENABLED", True))
    assert trainer.average is not None
    final, last = weights(trainer, "model_final"), weights(trainer, "model_0000019")
    assert torch.equal(final["head.weight"], trainer.average.weights["head.weight"])
    assert torch.equal(last["head.weight"], trainer.model.head.weight)
    assert not torch.equal(final["head.weight"], last["head.weight"])
    model = trainer.build_model(trainer.cfg)
    cfg = trainer.cfg.clone()
    cfg.defrost()
    cfg.MODEL.WEIGHTS = str(Path(cfg.OUTPUT_DIR, "model_final.pth"))
    Trainer.load_weights(cfg, model)
    assert TinyTrainer.test(cfg, model)["bbox"]["AP"] == rows(trainer)[-1]["bbox/AP"]


def test_the_moving_average_starts_from_loaded_weights(make: Make, tmp_path: Path) -> None:
    first = run(make("SOLVER.MAX_ITER", 1))
    path = str(Path(first.cfg.OUTPUT_DIR, "model_final.pth"))
    second = make("MODEL.WEIGHTS", path, "SOLVER.EMA.ENABLED", True, "OUTPUT_DIR", str(tmp_path))
    second.resume_or_load(resume=False)
    assert second.average is not None
    assert torch.equal(second.average.weights["pos_embed"], first.model.pos_embed)


def test_validation_losses_are_metrics(make: Make) -> None:
    trainer = run(make("TEST.VAL_LOSS", True, "TEST.BEST_METRIC", "val/total_loss"))
    losses = [row["val/total_loss"] for row in rows(trainer) if "val/total_loss" in row]
    assert len(losses) == 4
    best = torch.load(Path(trainer.cfg.OUTPUT_DIR, "model_best.pth"), weights_only=True)
    assert best["value"] == min(losses)


def test_early_stopping_ends_a_training_without_improvement(make: Make) -> None:
    class Worse(TinyTrainer):
        calls = 0

        def evaluate(self) -> dict[str, float]:
            self.calls += 1
            return {"bbox/AP": -float(self.calls)}

    options = ("TEST.PATIENCE", 2, "TEST.EVAL_PERIOD", 2)
    trainer = run(make(*options, kind=Worse))
    assert trainer.iter == trainer.max_iter == 6  # better at 2, worse at 4 and 6
    assert Path(trainer.cfg.OUTPUT_DIR, "model_0000005.pth").exists()
    again = run(make(*options, kind=Worse), resume=True)
    assert again.iter == 6


def test_a_finished_training_that_is_resumed_stays_the_same(make: Make) -> None:
    first = run(make())
    before, lines = weights(first, "model_final"), rows(first)
    second = run(make(), resume=True)
    assert rows(second) == lines
    assert torch.equal(weights(second, "model_final")["head.weight"], before["head.weight"])


def test_a_resumed_run_has_the_seed_and_data_of_the_first(make: Make) -> None:
    class Remember(TinyTrainer):
        def run_step(self) -> None:
            super().run_step()
            self.losses = {**getattr(self, "losses", {})}
            self.losses[self.iter] = get_event_storage().latest()["total_loss"][0]

    whole = run(make("SEED", 3, kind=Remember))
    cut = make("SEED", 3, kind=Remember)
    cut.register_hooks([Stop(9, KeyboardInterrupt())])
    with pytest.raises(KeyboardInterrupt):
        run(cut)
    rest = run(make("SEED", 4, kind=Remember), resume=True)
    assert rest.cfg.SEED == 3
    assert rest.losses == {k: v for k, v in whole.losses.items() if k >= 8}


def test_an_iteration_counts_batches_of_accumulation_as_one(make: Make) -> None:
    starts: list[int] = []

    class Watch(TinyTrainer):
        @classmethod
        def build_train_loader(cls, cfg: CfgNode, start_iteration: int = 0) -> Iterable[Batch]:
            starts.append(start_iteration)
            return super().build_train_loader(cfg, start_iteration)

    run(make("SOLVER.ACCUMULATE", 3, "SOLVER.MAX_ITER", 4, kind=Watch))
    run(make("SOLVER.ACCUMULATE", 3, "SOLVER.MAX_ITER", 6, kind=Watch), resume=True)
    assert starts == [0, 12]


def test_a_loader_of_detectron2_can_be_used(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    class Plain(TinyTrainer):
        @classmethod
        def build_train_loader(cls, cfg: CfgNode) -> Iterable[Batch]:  # type: ignore[override]
            return DefaultTrainer.build_train_loader(cfg)

    run(make("SOLVER.MAX_ITER", 4, kind=Plain))
    with caplog.at_level(logging.WARNING):
        run(make("SOLVER.MAX_ITER", 6, kind=Plain), resume=True)
    assert "data start from the beginning" in caplog.text


def test_a_users_mistake_is_not_logged_with_a_traceback(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    trainer = make()
    trainer.register_hooks([Stop(3, UserError("mend it"))])
    with pytest.raises(UserError, match="mend it"):
        run(trainer)
    assert not [record for record in caplog.records if record.exc_info]
    assert not Path(trainer.cfg.OUTPUT_DIR, "model_final.pth").exists()


def test_our_mistake_is_logged(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    trainer = make()
    trainer.register_hooks([Stop(3, RuntimeError("broken"))])
    with pytest.raises(RuntimeError, match="broken"):
        run(trainer)
    assert "iteration 3 failed" in caplog.text


def test_hooks_of_a_subclass_come_before_the_writer(make: Make) -> None:
    class Own(TinyTrainer):
        def build_hooks(self) -> list[HookBase | None]:
            class Metric(HookBase):
                def after_step(self) -> None:
                    self.trainer.storage.put_scalar("mine", 1.0)

            found = super().build_hooks()
            found.insert(-1, Metric())
            return found

    assert [row["mine"] for row in rows(run(make(kind=Own))) if row["iteration"] == 19] == [1.0]


def test_weights_of_other_classes_are_not_evaluated(make: Make) -> None:
    trainer = run(make("SOLVER.MAX_ITER", 1))
    cfg = trainer.cfg.clone()
    cfg.defrost()
    cfg.MODEL.WEIGHTS = str(Path(cfg.OUTPUT_DIR, "model_final.pth"))
    cfg.DATASETS.TEST = ("three_classes",)
    MetadataCatalog.get("three_classes").thing_classes = ["dot", "cross", "ring"]
    with pytest.raises(WeightsError, match="only in the data: ring"):
        Trainer.load_weights(cfg, trainer.model)


def test_bfloat16_trains_on_a_cpu(make: Make) -> None:
    trainer = run(make("SOLVER.AMP.ENABLED", True, "SOLVER.AMP.DTYPE", "bfloat16"))
    assert trainer.model.head.weight.dtype == torch.float32
    assert trainer.iter == 20


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_types_train_on_a_gpu(make: Make, dtype: str) -> None:
    options = ("MODEL.DEVICE", "cuda", "SOLVER.AMP.ENABLED", True, "SOLVER.AMP.DTYPE", dtype)
    clip = ("SOLVER.CLIP_GRADIENTS.ENABLED", True, "SOLVER.CLIP_GRADIENTS.CLIP_TYPE", "full_model")
    first = run(make(*options, *clip, "SOLVER.MAX_ITER", 10))
    second = run(make(*options, *clip), resume=True)
    assert second.iter == 20
    assert second._trainer.scaler.is_enabled() == (dtype == "float16")
    assert second._trainer.scaler.get_scale() == first._trainer.scaler.get_scale()


def rewrite(trainer: TinyTrainer, changes: dict[str, Any]) -> None:
    """Change the newest checkpoint; None removes a key."""
    path = Path(trainer.checkpointer.get_checkpoint_file())
    content = {**torch.load(path, weights_only=True), **changes}
    torch.save({key: value for key, value in content.items() if value is not None}, path)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"thing_classes": ["dot", "line"]},
            "its classes are dot, line, those of the data are dot",
        ),
        ({"trainer": None, "ema": None}, "has no state of the trainer; it has no state of the ema"),
        ({"trainer": {"iteration": 3}}, r"is incomplete \(KeyError\('_trainer'\)\)"),
        ({"ema": {"updates": 1, "weights": {}}}, "its EMA differs from the model in pos_embed"),
    ],
)
def test_a_resume_refuses_what_is_not_its_own(
    make: Make, changes: dict[str, Any], said: str
) -> None:
    options = ("SOLVER.MAX_ITER", 1, "SOLVER.EMA.ENABLED", True)
    rewrite(run(make(*options)), changes)
    with pytest.raises(
        WeightsError, match=r"model_0000000\.pth: not a checkpoint of this run.*" + said
    ):
        make(*options).resume_or_load(resume=True)


def test_a_resume_refuses_the_state_of_another_optimizer(make: Make) -> None:
    run(make("SOLVER.MAX_ITER", 1))
    other = make("SOLVER.MAX_ITER", 2, "SOLVER.OPTIMIZER", "ADAMW")
    with pytest.raises(WeightsError, match=r"optimizer is SGD, that of the config is AdamW"):
        other.resume_or_load(resume=True)


def test_a_resume_refuses_an_optimizer_of_other_parameter_groups(make: Make) -> None:
    run(make("SOLVER.MAX_ITER", 1))
    other = make(
        "SOLVER.MAX_ITER", 2, "SOLVER.BIAS_LR_FACTOR", 2.0, "SOLVER.WEIGHT_DECAY_NORM", 0.5
    )
    with pytest.raises(WeightsError, match=r"its optimizer has groups of \[.*\] tensors"):
        other.resume_or_load(resume=True)


def test_a_killed_worker_is_one_message_and_other_errors_stay(make: Make) -> None:
    class Failing(TinyTrainer):
        text = "DataLoader worker (pid 7) is killed by signal: Killed. "

        def run_step(self) -> None:
            raise RuntimeError(self.text)

    with pytest.raises(UserError, match=r"a worker of the data loader was killed.*--resume"):
        run(make(kind=Failing))
    Failing.text = "CUDA error"
    with pytest.raises(RuntimeError, match="CUDA error"):
        run(make(kind=Failing))
