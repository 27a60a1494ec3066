"""Hooks of the default trainer, and further ones."""

from __future__ import annotations

import logging
import math
import operator
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from fvcore.common.checkpoint import Checkpointer
from fvcore.common.checkpoint import PeriodicCheckpointer as _PeriodicCheckpointer
from fvcore.common.param_scheduler import ParamScheduler
from fvcore.common.timer import Timer
from fvcore.nn.precise_bn import get_bn_modules, update_bn_stats
from torch import nn

from detectron2.evaluation.testing import flatten_results_dict
from detectron2.solver import LRMultiplier
from detectron2.utils import comm
from detectron2.utils.events import EventStorage, EventWriter

from .train_loop import HookBase, TrainerBase

__all__ = [
    "AutogradProfiler",
    "BestCheckpointer",
    "CallbackHook",
    "EvalHook",
    "IterationTimer",
    "LRScheduler",
    "PeriodicCheckpointer",
    "PeriodicWriter",
    "PreciseBN",
    "TorchMemoryStats",
    "TorchProfiler",
]

TrainerCallback = Callable[[TrainerBase], None]


class CallbackHook(HookBase):
    """A hook built from functions, each called with the trainer."""

    def __init__(
        self,
        *,
        before_train: TrainerCallback | None = None,
        after_train: TrainerCallback | None = None,
        before_step: TrainerCallback | None = None,
        after_step: TrainerCallback | None = None,
    ) -> None:
        self._functions = {
            "before_train": before_train,
            "after_train": after_train,
            "before_step": before_step,
            "after_step": after_step,
        }

    def _call(self, moment: str) -> None:
        function = self._functions[moment]
        if function is not None:
            function(self.trainer)

    def before_train(self) -> None:
        self._call("before_train")

    def after_train(self) -> None:
        self._call("after_train")
        # Closures may hold the trainer: break the cycle.
        self._functions = dict.fromkeys(self._functions)

    def before_step(self) -> None:
        self._call("before_step")

    def after_step(self) -> None:
        self._call("after_step")


class IterationTimer(HookBase):
    """Hook that records the seconds of each iteration as "time" and logs a summary at the end.

    Place it first, so that it times the step and not the other hooks.

    Args:
        warmup_iter: iterations at the start that are excluded.
    """

    def __init__(self, warmup_iter: int = 3) -> None:
        self._warmup_iter = warmup_iter
        self._step_timer = Timer()
        self._total_timer = Timer()
        self._start_time = time.perf_counter()

    def before_train(self) -> None:
        self._start_time = time.perf_counter()
        self._total_timer.reset()
        self._total_timer.pause()

    def before_step(self) -> None:
        self._step_timer.reset()
        self._total_timer.resume()

    def after_step(self) -> None:
        done = self.trainer.iter - self.trainer.start_iter + 1
        if done < self._warmup_iter:
            self._start_time = time.perf_counter()
            self._total_timer.reset()
        else:
            self.trainer.storage.put_scalars(time=self._step_timer.seconds())
        self._total_timer.pause()

    def after_train(self) -> None:
        logger = logging.getLogger(__name__)
        total = time.perf_counter() - self._start_time
        in_steps = self._total_timer.seconds()
        counted = self.trainer.storage.iter + 1 - self.trainer.start_iter - self._warmup_iter
        if counted > 0 and in_steps > 0:
            logger.info(
                "Overall training speed: %d iterations in %s (%.4f s / it)",
                counted,
                timedelta(seconds=int(in_steps)),
                in_steps / counted,
            )
        logger.info(
            "Total training time: %s (%s on hooks)",
            timedelta(seconds=int(total)),
            timedelta(seconds=int(total - in_steps)),
        )


class PeriodicWriter(HookBase):
    """Hook that runs the writers every `period` iterations and after the last; closes them."""

    def __init__(self, writers: Sequence[EventWriter], period: int = 20) -> None:
        wrong = [type(w).__name__ for w in writers if not isinstance(w, EventWriter)]
        if wrong:
            raise TypeError(f"writers must be EventWriters, got {', '.join(wrong)}")
        self._writers = writers
        self._period = period

    def after_step(self) -> None:
        done = self.trainer.iter + 1
        if done % self._period == 0 or done == self.trainer.max_iter:
            for writer in self._writers:
                writer.write()

    def after_train(self) -> None:
        for writer in self._writers:
            writer.write()  # scalars that later hooks recorded in the last iteration
            writer.close()


class PeriodicCheckpointer(_PeriodicCheckpointer, HookBase):
    """fvcore's `PeriodicCheckpointer` as a hook: "model_<iteration>", at the end "model_final"."""

    def before_train(self) -> None:
        self.max_iter = self.trainer.max_iter

    def after_step(self) -> None:
        self.step(self.trainer.iter)


class BestCheckpointer(HookBase):
    """Hook that saves the model whenever a metric improves; place it after `EvalHook`.

    Args:
        eval_period: period of the `EvalHook`, in iterations.
        checkpointer: saves the model.
        val_metric: name of the metric in the events, e.g. "bbox/AP50".
        mode: "max" or "min": which direction is better.
        file_prefix: name of the file without ".pth".
    """

    def __init__(
        self,
        eval_period: int,
        checkpointer: Checkpointer,
        val_metric: str,
        mode: str = "max",
        file_prefix: str = "model_best",
    ) -> None:
        if mode not in ("max", "min"):
            raise ValueError(f"mode is 'max' or 'min', got {mode!r}")
        self._logger = logging.getLogger(__name__)
        self._period = eval_period
        self._checkpointer = checkpointer
        self._val_metric = val_metric
        self._compare = operator.gt if mode == "max" else operator.lt
        self._file_prefix = file_prefix
        self.best_metric: float | None = None
        self.best_iter: int | None = None

    def _update_best(self, val: float, iteration: int) -> bool:
        """Set the best metric and its iteration; return False for a value that is not finite."""
        if not math.isfinite(val):
            return False
        self.best_metric, self.best_iter = val, iteration
        return True

    def _best_checking(self) -> None:
        latest = self.trainer.storage.latest().get(self._val_metric)
        if latest is None:
            self._logger.warning(
                "Given val metric %s does not seem to be computed/stored. "
                "Will not be checkpointing based on it.",
                self._val_metric,
            )
            return
        value, iteration = latest
        before = self.best_metric
        is_better = before is None or self._compare(value, before)
        if not is_better or not self._update_best(value, iteration):
            self._logger.info(
                "Not saving as latest eval score for %s is %.5f, not better than best score %s "
                "@ iteration %s.",
                self._val_metric,
                value,
                "none" if before is None else f"{before:.5f}",
                self.best_iter,
            )
            return
        self._checkpointer.save(self._file_prefix, iteration=iteration)
        if before is None:
            self._logger.info("Saved first model at %.5f @ %d steps", value, iteration)
        else:
            self._logger.info(
                "Saved best model as latest eval score for %s is %.5f, better than last best "
                "score %.5f @ iteration %d.",
                self._val_metric,
                value,
                before,
                iteration,
            )

    def after_step(self) -> None:
        done = self.trainer.iter + 1
        # `after_train` evaluates after the last iteration.
        if self._period > 0 and done % self._period == 0 and done != self.trainer.max_iter:
            self._best_checking()

    def after_train(self) -> None:
        if self.trainer.iter + 1 >= self.trainer.max_iter:
            self._best_checking()


class LRScheduler(HookBase):
    """Hook that steps the learning rate schedule after each iteration and records the rate as "lr".

    Args:
        optimizer: by default the trainer's.
        scheduler: PyTorch's, or fvcore's `ParamScheduler`, which multiplies the base rate;
            by default the trainer's.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer | None = None,
        scheduler: torch.optim.lr_scheduler.LRScheduler | ParamScheduler | None = None,
    ) -> None:
        self._optimizer: Any = optimizer
        self._scheduler = scheduler

    def before_train(self) -> None:
        trainer: Any = self.trainer  # a trainer with an optimizer and a scheduler
        self._optimizer = self._optimizer or trainer.optimizer
        if isinstance(self.scheduler, ParamScheduler):
            self._scheduler = LRMultiplier(
                self._optimizer,
                self.scheduler,
                self.trainer.max_iter,
                last_iter=self.trainer.iter - 1,
            )
        self._best_param_group_id = self.get_best_param_group_id(self._optimizer)

    @staticmethod
    def get_best_param_group_id(optimizer: torch.optim.Optimizer) -> int:
        """Return the index of the parameter group whose learning rate is logged.

        It is the largest group or, if every parameter has a group of its own, the first one with
        the most common initial rate.
        """
        groups = optimizer.param_groups
        sizes = [len(group["params"]) for group in groups]
        if max(sizes) > 1:
            return sizes.index(max(sizes))
        rates = [group["lr"] for group in groups]
        return rates.index(Counter(rates).most_common(1)[0][0])

    def after_step(self) -> None:
        rate = self._optimizer.param_groups[self._best_param_group_id]["lr"]
        self.trainer.storage.put_scalar("lr", rate, smoothing_hint=False)
        self.scheduler.step()

    @property
    def scheduler(self) -> Any:
        trainer: Any = self.trainer
        return self._scheduler or trainer.scheduler

    def state_dict(self) -> dict:
        if isinstance(self.scheduler, torch.optim.lr_scheduler.LRScheduler):
            return self.scheduler.state_dict()
        return {}

    def load_state_dict(self, state_dict: dict) -> None:
        if isinstance(self.scheduler, torch.optim.lr_scheduler.LRScheduler):
            logging.getLogger(__name__).info("Loading scheduler from state_dict ...")
            self.scheduler.load_state_dict(state_dict)


class EvalHook(HookBase):
    """Hook that evaluates periodically and records the numbers as scalars.

    Register it on all processes or on none, because it ends in a barrier.

    Args:
        eval_period: in iterations; 0: only at the end.
        eval_function: takes no arguments, returns a nested dict of numbers (or nothing).
        eval_after_train: also after the last iteration.
    """

    def __init__(
        self,
        eval_period: int,
        eval_function: Callable[[], Mapping | None],
        eval_after_train: bool = True,
    ) -> None:
        self._period = eval_period
        self._func: Any = eval_function
        self._eval_after_train = eval_after_train

    def _do_eval(self) -> None:
        results = self._func()
        if results:
            if not isinstance(results, Mapping):
                raise TypeError(f"an evaluation gives a dict, got {results!r}")
            self.trainer.storage.put_scalars(**_numbers(results), smoothing_hint=False)
        # The main process evaluates longer: wait, so that the others do not time out in training.
        comm.synchronize()

    def after_step(self) -> None:
        done = self.trainer.iter + 1
        # `after_train` evaluates after the last iteration.
        if self._period > 0 and done % self._period == 0 and done != self.trainer.max_iter:
            self._do_eval()

    def after_train(self) -> None:
        # Not after a failed run.
        if self._eval_after_train and self.trainer.iter + 1 >= self.trainer.max_iter:
            self._do_eval()
        self._func = None  # the closure may hold the trainer: break the cycle


def _numbers(results: Mapping) -> dict[str, Any]:
    numbers: dict[str, Any] = {}
    for name, value in flatten_results_dict(results).items():
        try:
            numbers[name] = float(value)
        except (TypeError, ValueError) as error:
            raise ValueError(
                "an evaluation gives a nested dict of numbers, "
                f"but {name} is {value!r} ({type(value).__name__})"
            ) from error
    return numbers


class PreciseBN(HookBase):
    """Hook that replaces the running statistics of batch norms by true averages (precise BN).

    Args:
        period: in iterations; 0: only after the last one.
        model: its batch norms in training mode are updated.
        data_loader: yields inputs of the model.
        num_iter: batches to average over.
    """

    def __init__(self, period: int, model: nn.Module, data_loader: Iterable, num_iter: int) -> None:
        self._period = period
        self._model = model
        self._data_loader = data_loader
        self._num_iter = num_iter
        self._data_iter: Any = None
        self._disabled = not get_bn_modules(model)
        if self._disabled:
            logging.getLogger(__name__).info(
                "PreciseBN is disabled because model does not contain BN layers in training mode."
            )

    def after_step(self) -> None:
        done = self.trainer.iter + 1
        if done == self.trainer.max_iter or (self._period > 0 and done % self._period == 0):
            self.update_stats()

    def update_stats(self) -> None:
        """Recompute the batch norm statistics now."""
        if self._disabled:
            return
        if self._data_iter is None:
            self._data_iter = iter(self._data_loader)
        logging.getLogger(__name__).info(
            "Running precise-BN for %d iterations...  "
            "Note that this could produce different statistics every time.",
            self._num_iter,
        )
        with EventStorage():  # keeps the model's scalars out of the training's storage
            update_bn_stats(self._model, self._batches(), self._num_iter)

    def _batches(self) -> Iterator:
        for index, batch in enumerate(self._data_iter):
            if (index + 1) % 100 == 0:
                logging.getLogger(__name__).info(
                    "Running precise-BN ... %d/%d iterations.", index + 1, self._num_iter
                )
            yield batch


class TorchProfiler(HookBase):
    """Hook that profiles iterations with `torch.profiler` and writes a trace of each.

    Args:
        enable_predicate: called with the trainer before each iteration; True profiles it.
        output_dir: folder of "profiler-trace-iter<iteration>.json".
        activities: as `torch.profiler.profile` takes them.
        save_tensorboard: also write the trace for TensorBoard, into "log" in `output_dir`.
    """

    def __init__(
        self,
        enable_predicate: Callable[[TrainerBase], bool],
        output_dir: str,
        *,
        activities: Iterable | None = None,
        save_tensorboard: bool = True,
    ) -> None:
        self._enable_predicate = enable_predicate
        self._activities = activities
        self._output_dir = output_dir
        self._save_tensorboard = save_tensorboard
        self._profiler: Any = None

    def before_step(self) -> None:
        if not self._enable_predicate(self.trainer):
            return
        self._profiler = self._make_profiler()
        self._profiler.__enter__()

    def _make_profiler(self) -> Any:
        on_trace = None
        if self._save_tensorboard:
            on_trace = torch.profiler.tensorboard_trace_handler(
                str(
                    Path(self._output_dir) / "log" / f"profiler-tensorboard-iter{self.trainer.iter}"
                ),
                f"worker{comm.get_rank()}",
            )
        return torch.profiler.profile(
            activities=self._activities,
            on_trace_ready=on_trace,
            record_shapes=True,
            profile_memory=True,
            with_stack=True,
            with_flops=True,
        )

    def after_step(self) -> None:
        if self._profiler is None:
            return
        profiler, self._profiler = self._profiler, None
        profiler.__exit__(None, None, None)
        if not self._save_tensorboard:
            folder = Path(self._output_dir)
            folder.mkdir(parents=True, exist_ok=True)
            trace = folder / f"profiler-trace-iter{self.trainer.iter}.json"
            profiler.export_chrome_trace(str(trace))


class AutogradProfiler(TorchProfiler):
    """Hook that profiles iterations with `torch.autograd.profiler`: operators only.

    Args:
        enable_predicate, output_dir: as in `TorchProfiler`.
        use_cuda: also record GPU time.
    """

    def __init__(
        self,
        enable_predicate: Callable[[TrainerBase], bool],
        output_dir: str,
        *,
        use_cuda: bool = True,
    ) -> None:
        super().__init__(enable_predicate, output_dir, save_tensorboard=False)
        self._use_cuda = use_cuda

    def _make_profiler(self) -> Any:
        device = "cuda" if self._use_cuda and torch.cuda.is_available() else None
        return torch.autograd.profiler.profile(use_device=device)


class TorchMemoryStats(HookBase):
    """Hook that logs the GPU memory in use and PyTorch's summary of it; a no-op without a GPU.

    Args:
        period: in iterations.
        max_runs: stop after so many reports.
    """

    def __init__(self, period: int = 20, max_runs: int = 10) -> None:
        self._period = period
        self._max_runs = max_runs
        self._runs = 0

    def after_step(self) -> None:
        done = self.trainer.iter + 1
        due = done % self._period == 0 or done == self.trainer.max_iter
        if not due or self._runs >= self._max_runs or not torch.cuda.is_available():
            return
        self._runs += 1
        logger = logging.getLogger(__name__)
        megabytes = {
            "max reserved memory": torch.cuda.max_memory_reserved(),
            "reserved memory": torch.cuda.memory_reserved(),
            "max allocated memory": torch.cuda.max_memory_allocated(),
            "allocated memory": torch.cuda.memory_allocated(),
        }
        logger.info(
            "iter: %d %s",
            self.trainer.iter,
            ", ".join(f"{name}: {value / 2**20:.0f}MB" for name, value in megabytes.items()),
        )
        if self._runs == self._max_runs:
            logger.info("\n%s", torch.cuda.memory_summary())
        torch.cuda.reset_peak_memory_stats()
