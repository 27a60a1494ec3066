"""The evaluator interface, and the loop that feeds evaluators with a model's outputs."""

import datetime
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn

from detectron2.utils.comm import get_world_size, is_main_process
from detectron2.utils.logger import log_every_n_seconds

__all__ = ["DatasetEvaluator", "DatasetEvaluators", "inference_context", "inference_on_dataset"]

logger = logging.getLogger(__name__)

_WARMUP_BATCHES = 5


class DatasetEvaluator:
    """Base class of evaluators: `process` collects outputs, `evaluate` scores them."""

    def reset(self) -> None:
        """Clear the state before an evaluation."""

    def process(self, inputs: list, outputs: list) -> None:
        """Process a batch: `inputs` of the model and the `outputs` it returned."""

    def evaluate(self) -> Any:
        """Return scores, by convention {task: {metric: value}}; None in processes without any."""


class DatasetEvaluators(DatasetEvaluator):
    """Several evaluators as one; no two of them may score the same task."""

    def __init__(self, evaluators: Sequence[DatasetEvaluator]) -> None:
        super().__init__()
        self._evaluators = evaluators

    def reset(self) -> None:
        for evaluator in self._evaluators:
            evaluator.reset()

    def process(self, inputs: list, outputs: list) -> None:
        for evaluator in self._evaluators:
            evaluator.process(inputs, outputs)

    def evaluate(self) -> OrderedDict:
        results: OrderedDict = OrderedDict()
        for evaluator in self._evaluators:
            result = evaluator.evaluate()
            if not is_main_process() or result is None:
                continue
            for task, metrics in result.items():
                if task in results:
                    raise AssertionError(f"Different evaluators produce results of '{task}'")
                results[task] = metrics
        return results


class _Stopwatch:
    """Timer of the stages of the loop, excluding the first batches."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.warmup = min(_WARMUP_BATCHES, total - 1)
        self.restart()

    def restart(self) -> None:
        self.begin = self.last = time.perf_counter()
        self.data = self.compute = self.evaluation = 0.0

    def lap(self) -> float:
        """Return the seconds since the last lap."""
        before, self.last = self.last, time.perf_counter()
        return self.last - before

    def progress(self, done: int) -> str:
        """Format the progress line of a running inference."""
        counted = done - self.warmup * (done - 1 >= self.warmup)
        per_batch = (time.perf_counter() - self.begin) / counted
        eta = datetime.timedelta(seconds=int(per_batch * (self.total - done)))
        return (
            f"Inference done {done}/{self.total}. "
            f"Dataloading: {self.data / counted:.4f} s/iter. "
            f"Inference: {self.compute / counted:.4f} s/iter. "
            f"Eval: {self.evaluation / counted:.4f} s/iter. "
            f"Total: {per_batch:.4f} s/iter. "
            f"ETA={eta}"
        )

    def summary(self, devices: int) -> None:
        """Log the total times."""
        spent = time.perf_counter() - self.begin
        counted = self.total - self.warmup
        for name, seconds, shown in (
            ("inference time", spent, datetime.timedelta(seconds=int(spent))),
            (
                "inference pure compute time",
                self.compute,
                datetime.timedelta(seconds=int(self.compute)),
            ),
        ):
            logger.info(
                f"Total {name}: {shown} ({seconds / counted:.6f} s / iter per device, "
                f"on {devices} devices)"
            )


def inference_on_dataset(
    model: Callable[[Any], Any],
    data_loader: Any,
    evaluator: DatasetEvaluator | list[DatasetEvaluator] | None,
    callbacks: Mapping[str, Callable[[], Any]] | None = None,
) -> Any:
    """Run a model over a data loader, time it, and evaluate its outputs.

    Args:
        model: maps inputs to outputs, under `no_grad`; an `nn.Module` is put into eval mode.
        data_loader: sized iterable of inputs.
        evaluator: one or several; None for timing only.
        callbacks: functions for "on_start", "before_inference", "after_inference" (around each
            call of the model) and "on_end".

    Returns:
        The scores; {} in processes without any.
    """
    total, devices = len(data_loader), get_world_size()
    logger.info(f"Start inference on {total} batches")
    if evaluator is None or isinstance(evaluator, list):
        evaluator = DatasetEvaluators(evaluator or [])
    evaluator.reset()
    watch = _Stopwatch(total)
    with ExitStack() as stack:
        if isinstance(model, nn.Module):
            stack.enter_context(inference_context(model))
        stack.enter_context(torch.no_grad())
        _run(model, data_loader, evaluator, callbacks or {}, watch)
    watch.summary(devices)
    results = evaluator.evaluate()
    return {} if results is None else results


def _run(
    model: Callable[[Any], Any],
    data_loader: Any,
    evaluator: DatasetEvaluator,
    callbacks: Mapping[str, Callable[[], Any]],
    watch: _Stopwatch,
) -> None:
    def call(stage: str) -> None:
        callbacks.get(stage, lambda: None)()

    call("on_start")
    watch.lap()
    for index, inputs in enumerate(data_loader):
        waited = watch.lap()
        if index == watch.warmup:
            watch.restart()
            waited = 0.0
        watch.data += waited
        call("before_inference")
        outputs = model(inputs)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        call("after_inference")
        watch.compute += watch.lap()
        evaluator.process(inputs, outputs)
        watch.evaluation += watch.lap()
        if index >= 2 * watch.warmup or watch.compute / (index + 1) > 5:
            log_every_n_seconds(logging.INFO, watch.progress(index + 1), n=5)
    call("on_end")


@contextmanager
def inference_context(model: nn.Module) -> Iterator[None]:
    """Put the model into eval mode within the context, then restore its mode."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)
