"""Detectron2's default trainer extended by the options of `SOLVER` and `TEST`."""

import logging
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from inspect import signature
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from d2ext.checkpoint import Checkpointer, check_classes, load_for_evaluation
from d2ext.data import build_test_loader, build_train_loader
from d2ext.data.statistics import names_of_classes
from d2ext.engine import hooks
from d2ext.engine.build import explained_build
from d2ext.engine.clipping import build_clip
from d2ext.engine.devices import wrap_model
from d2ext.engine.ema import WeightAverage
from d2ext.engine.finite import refuse_non_finite
from d2ext.engine.hooks.score import BestScore
from d2ext.engine.interruption import stop_requests
from d2ext.engine.killed_worker import explain_killed_worker
from d2ext.engine.loggers import build_loggers
from d2ext.engine.metrics_file import MetricsFile
from d2ext.engine.mixed_precision import autocast_dtype
from d2ext.engine.optimizer import build_optimizer
from d2ext.engine.recording import RecordingNode
from d2ext.engine.train_step import Batch, TrainStep
from d2ext.engine.validation import build_loss_loader, validation_losses
from d2ext.engine.warmup import build_lr_scheduler
from d2ext.errors import Interrupted, UserError
from d2ext.evaluation import build_evaluator
from d2ext.modeling import build_model
from d2ext.modeling.test_time_augmentation import with_tta
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.engine import DefaultTrainer, HookBase, TrainerBase
from detectron2.engine.hooks import IterationTimer, LRScheduler
from detectron2.evaluation import DatasetEvaluator, verify_results
from detectron2.evaluation.testing import flatten_results_dict
from detectron2.utils import comm
from detectron2.utils.events import (
    CommonMetricPrinter,
    EventStorage,
    EventWriter,
    TensorboardXWriter,
)
from detectron2.utils.logger import setup_logger

logger = logging.getLogger(__name__)


class Trainer(DefaultTrainer):
    """The training loop of a config; use and override it like `DefaultTrainer`.

    An iteration is one optimizer step, i.e. SOLVER.ACCUMULATE batches. Checkpoints
    model_<iteration> hold everything that resuming needs. model_best and model_final hold the
    evaluated weights: the exponential moving average (EMA) if SOLVER.EMA is enabled.

    Attributes:
        average: the EMA of the weights, or None.
        sections: of the config that the model was built from, such as "MODEL.SWIN".
    """

    def __init__(self, cfg: CfgNode) -> None:
        TrainerBase.__init__(self)  # DefaultTrainer's builds the loop that TrainStep replaces
        for name in ("d2ext", "detectron2"):
            if not logging.getLogger(name).isEnabledFor(logging.INFO):
                setup_logger(name=name)
        self.cfg = _with_common_seed(self.auto_scale_workers(cfg, comm.get_world_size()))
        self.start_iter, self.max_iter, self.stopped = 0, self.cfg.SOLVER.MAX_ITER, False
        recorder = RecordingNode.of(self.cfg)
        model = self.build_model(recorder)
        self.sections = recorder.sections_read()
        optimizer = self.build_optimizer(self.cfg, model)
        self.scheduler = self.build_lr_scheduler(self.cfg, optimizer)
        self._trainer: TrainStep = self.build_step(
            wrap_model(model, self.cfg.SOLVER.FIND_UNUSED_PARAMETERS), optimizer
        )
        ema = self.cfg.SOLVER.EMA
        self.average = WeightAverage(model, ema.DECAY) if ema.ENABLED else None
        self.checkpointer = self.build_checkpointer(model)
        self.register_hooks(self.build_hooks())
        self.register_hooks(self.build_last_hooks())

    def build_step(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> TrainStep:
        """Build the inner loop; its loader starts at the iteration at which training starts."""
        return TrainStep(
            model,
            _LazyLoader(self),
            optimizer,
            accumulate=self.cfg.SOLVER.ACCUMULATE,
            dtype=autocast_dtype(self.cfg),
            clip=build_clip(self.cfg),
            seed=self.cfg.SEED,
        )

    def build_checkpointer(self, model: nn.Module) -> Checkpointer:
        metadata: dict[str, Any] = {"config": self.cfg.dump()}
        for name in self.cfg.DATASETS.TRAIN[:1]:
            metadata["thing_classes"] = _class_names(name)
            if stuff := MetadataCatalog.get(name).get("stuff_classes", None):
                metadata["stuff_classes"] = list(stuff)
        checkpointer = Checkpointer(
            model,
            self.cfg.OUTPUT_DIR,
            keep=self.cfg.SOLVER.KEEP_CHECKPOINTS,
            metadata=metadata,
            trainer=self,
        )
        if self.average is not None:
            checkpointer.add_checkpointable("ema", self.average)
        return checkpointer

    def build_hooks(self) -> list[HookBase | None]:
        """Build the hooks in the order they run; the one that writes metrics is last."""
        found: list[HookBase | None] = [IterationTimer()]
        found.append(LRScheduler(self.optimizer, self.scheduler))
        if self.average is not None:
            found.append(hooks.AverageWeights(self.average))
        evaluate = hooks.Evaluate(self.cfg.TEST.EVAL_PERIOD, self.evaluate)
        if self.cfg.DATASETS.TEST:
            found += [evaluate, *self._score_hooks(evaluate)]
        if comm.is_main_process() and hooks.ProgressBar.wanted():
            found.append(hooks.ProgressBar())
        writers = self.build_writers() if comm.is_main_process() else []
        found.append(hooks.WriteMetrics(writers, evaluate))
        return found

    def build_last_hooks(self) -> list[HookBase | None]:
        """Build the hooks that must run after all others of an iteration, in this order."""
        period, weights = self.cfg.SOLVER.CHECKPOINT_PERIOD, self.evaluated_weights
        found: list[HookBase | None] = [hooks.SaveCheckpoints(self.checkpointer, period, weights)]
        if comm.is_main_process():
            found.append(hooks.SavePictures(self.cfg))
            found.append(hooks.RunLoggers(self.loggers, Path(self.cfg.OUTPUT_DIR)))
        return found

    def build_writers(self) -> list[EventWriter]:
        """Build the writers of log lines, metrics.json, TensorBoard and `LOGGING.WRITERS`."""
        folder = Path(self.cfg.OUTPUT_DIR)
        folder.mkdir(parents=True, exist_ok=True)
        self.loggers = build_loggers(self.cfg)
        return [
            CommonMetricPrinter(self.max_iter),
            MetricsFile(folder / "metrics.json"),
            TensorboardXWriter(str(folder)),
            *self.loggers,
        ]

    def resume_or_load(self, resume: bool = True) -> None:
        """Continue from the last checkpoint of OUTPUT_DIR if `resume`, else load MODEL.WEIGHTS.

        Raises:
            WeightsError: the file is missing, unreadable or of another model.
        """
        resume = resume and self.checkpointer.has_checkpoint()
        self.checkpointer.resume_or_load(self.cfg.MODEL.WEIGHTS, resume=resume)
        if resume:
            self.start_iter = self.iter + 1
            logger.info("resumed: the next iteration is %d", self.start_iter)
        elif self.average is not None:
            self.average.restart()  # it was started from the initial weights

    def train(self) -> dict[str, Any]:  # type: ignore[override] # as DefaultTrainer's
        """Train from `start_iter` to `max_iter`; return the last evaluation's results.

        Raises:
            UserError: a loss is not finite, or a file could not be saved.
            Interrupted: Ctrl-C or SIGTERM; there is a checkpoint to resume from.
        """
        self.iter = self.start_iter
        with EventStorage(self.start_iter) as self.storage, stop_requests() as stop:
            try:
                self.before_train()
                while self.iter < self.max_iter:
                    self.before_step()
                    self.run_step()
                    self.after_step()
                    if number := stop.agreed():
                        self._save_and_stop(number)
                    self.iter += 1
            except (UserError, Interrupted):
                raise
            except Exception as error:
                explain_killed_worker(error)
                logger.exception("iteration %d failed", self.iter)
                raise
            finally:
                self._trainer.close()
                self.after_train()
        results = getattr(self, "_last_eval_results", {})
        if self.cfg.TEST.EXPECTED_RESULTS and comm.is_main_process():
            verify_results(self.cfg, results)
        return results

    @property
    def best_score(self) -> BestScore | None:
        """The tracked metric with its best value; None if nothing is evaluated."""
        hooks_found = [hook for hook in self._hooks if isinstance(hook, hooks.BestCheckpoint)]
        return hooks_found[0].score if hooks_found else None

    @property
    def best_weights(self) -> Path:
        """The file with the best weights of this run, or else the last ones."""
        found = self.best_score is not None and self.best_score.best is not None
        return Path(self.cfg.OUTPUT_DIR, "model_best.pth" if found else "model_final.pth")

    def evaluate(self) -> dict[str, float]:
        """Evaluate on DATASETS.TEST; return metrics by name, the same in every process."""
        with self._evaluated_model():
            self._last_eval_results = self.test(self.cfg, self.model)
            numbers = flatten_results_dict(self._last_eval_results or {})
            if self.cfg.TEST.VAL_LOSS:
                loaders = [self.build_loss_loader(self.cfg, n) for n in self.cfg.DATASETS.TEST]
                numbers |= validation_losses(_unwrapped(self.model), loaders)
        numbers = {name: float(value) for name, value in numbers.items()}
        # Only the first process has the results; all must agree on the best score and on stopping.
        return comm.all_gather(numbers)[0]

    def evaluated_weights(self) -> dict[str, Tensor]:
        """Return the weights that are evaluated: the EMA, or else the model's own."""
        if self.average is not None:
            return self.average.weights
        return _unwrapped(self.model).state_dict()

    def state_dict(self) -> dict[str, Any]:
        state = super().state_dict()
        state["iteration"] = min(self.iter, self.max_iter - 1)  # the last complete one
        return {**state, "seed": self.cfg.SEED}

    def state_differences(self, state: dict[str, Any]) -> list[str]:
        """List in words why `load_state_dict` cannot load a state."""
        missing = [key for key in ("iteration", "seed") if not isinstance(state.get(key), int)]
        lacking = [f"its state of the trainer has no {key}" for key in missing]
        return lacking + self._trainer.state_differences(state["_trainer"])

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self._use_seed(state_dict["seed"])  # the order of the data depends on it

    @classmethod
    def load_weights(cls, cfg: CfgNode, model: nn.Module) -> None:
        """Load MODEL.WEIGHTS for evaluation.

        Raises:
            WeightsError: the file is missing, unreadable, incomplete, of another model or of
                other classes than the data.
        """
        metadata = load_for_evaluation(model, cfg.MODEL.WEIGHTS)
        for name in cfg.DATASETS.TEST:
            check_classes(metadata.get("thing_classes"), _class_names(name))
        refuse_non_finite(model, cfg.MODEL.WEIGHTS)

    @classmethod
    def test(cls, cfg: CfgNode, model: nn.Module, evaluators: Any = None) -> Any:
        """Evaluate like DefaultTrainer, with test-time augmentation if the config asks for it."""
        return super().test(cfg, with_tta(cfg, model), evaluators)

    @classmethod
    def build_model(cls, cfg: CfgNode) -> nn.Module:
        """Build the model of a config.

        Raises:
            ConfigError: values of the config do not fit each other.
        """
        with explained_build():
            model = build_model(cfg)
        logging.getLogger(__name__).debug("Model:\n%s", model)
        return model

    @classmethod
    def build_optimizer(cls, cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
        return build_optimizer(cfg, model)

    @classmethod
    def build_lr_scheduler(
        cls, cfg: CfgNode, optimizer: torch.optim.Optimizer
    ) -> torch.optim.lr_scheduler.LRScheduler:
        return build_lr_scheduler(cfg, optimizer)

    @classmethod
    def build_train_loader(cls, cfg: CfgNode, start_iteration: int = 0) -> Iterable[Batch]:
        """Build the training loader without its first `start_iteration` batches."""
        return build_train_loader(cfg, start_iteration)

    @classmethod
    def build_test_loader(cls, cfg: CfgNode, dataset_name: str) -> Iterable[Batch]:
        return build_test_loader(cfg, dataset_name)

    @classmethod
    def build_loss_loader(cls, cfg: CfgNode, dataset_name: str) -> Iterable[Batch]:
        """Build the loader of test images with annotations for TEST.VAL_LOSS."""
        return build_loss_loader(cfg, dataset_name)

    @classmethod
    def build_evaluator(cls, cfg: CfgNode, dataset_name: str) -> DatasetEvaluator:
        return build_evaluator(cfg, dataset_name)

    def _score_hooks(self, evaluate: hooks.Evaluate) -> list[HookBase]:
        """Build the hooks that act on the results of an evaluation."""
        metric, patience = self.cfg.TEST.BEST_METRIC, self.cfg.TEST.PATIENCE
        best = hooks.BestCheckpoint(evaluate, self.checkpointer, metric, self.evaluated_weights)
        stop = [hooks.EarlyStopping(evaluate, metric, patience)] if patience > 0 else []
        return [best, *stop]

    def _save_and_stop(self, number: int) -> NoReturn:
        self.stopped = True  # hooks that draw pictures leave it
        self.checkpointer.save(f"model_{self.iter:07d}", iteration=self.iter)
        raise Interrupted(f"saved after iteration {self.iter} of {self.max_iter}", number)

    def _evaluated_model(self) -> AbstractContextManager[None]:
        return self.average.in_model() if self.average is not None else nullcontext()

    def _use_seed(self, seed: int) -> None:
        self.cfg = self.cfg.clone()
        self.cfg.defrost()
        self.cfg.SEED = self._trainer.seed = seed
        self.cfg.freeze()


class _LazyLoader:
    """A training loader that is built on first use, when the start iteration is known."""

    def __init__(self, trainer: Trainer) -> None:
        self._build = partial(_load_from_start, trainer)

    def __iter__(self) -> Iterator[Batch]:
        with explained_build():
            return iter(self._build())


def _load_from_start(trainer: Trainer) -> Iterable[Batch]:
    batches = trainer.start_iter * trainer.cfg.SOLVER.ACCUMULATE
    build = trainer.build_train_loader
    # A subclass may override build_train_loader with Detectron2's own signature.
    if "start_iteration" in signature(build).parameters:
        return build(trainer.cfg, start_iteration=batches)
    if batches:
        logger.warning("build_train_loader takes no start_iteration: data start from the beginning")
    return build(trainer.cfg)


def _class_names(dataset_name: str) -> list[str] | None:
    """Return the class names of a data set; None if it has none."""
    if not names_of_classes(dataset_name) and dataset_name in DatasetCatalog.list():
        DatasetCatalog.get(dataset_name)  # loading sets the class names of the metadata
    return names_of_classes(dataset_name) or None


def _with_common_seed(cfg: CfgNode) -> CfgNode:
    """Return the config with a seed that all processes share, drawn if it is negative."""
    drawn = cfg.SEED if cfg.SEED >= 0 else int(torch.seed() % 2**31)
    cfg = cfg.clone()
    cfg.defrost()
    cfg.SEED = comm.all_gather(drawn)[0]
    cfg.freeze()
    return cfg


def _unwrapped(model: nn.Module) -> nn.Module:
    return model.module if isinstance(model, nn.parallel.DistributedDataParallel) else model
