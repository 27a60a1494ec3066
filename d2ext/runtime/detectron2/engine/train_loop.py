"""Training loops and the base class of their hooks."""

from __future__ import annotations

import logging
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

from detectron2.utils import comm
from detectron2.utils.events import EventStorage, get_event_storage
from detectron2.utils.logger import _log_api_usage

__all__ = ["AMPTrainer", "HookBase", "SimpleTrainer", "TrainerBase"]


class HookBase:
    """Base class of hooks, which a trainer calls at fixed moments.

    A subclass overrides the methods it needs. `trainer` is set to a weak reference when the hook
    is registered. The order of the calls: `before_train`, then in every iteration `before_step`,
    `after_backward` and `after_step`, and at the end (also of a failed run) `after_train`.
    """

    trainer: TrainerBase = None  # type: ignore[assignment]

    def before_train(self) -> None:
        """Run before the first iteration."""

    def after_train(self) -> None:
        """Run after the last iteration, or after an exception."""

    def before_step(self) -> None:
        """Run before each iteration."""

    def after_backward(self) -> None:
        """Run after the backward pass, before the optimizer's step."""

    def after_step(self) -> None:
        """Run after each iteration."""

    def state_dict(self) -> dict:
        """Return the state to checkpoint."""
        return {}

    def load_state_dict(self, state_dict: dict) -> None:
        """Restore the result of `state_dict`."""


class TrainerBase:
    """A training loop that calls `run_step` between hooks.

    Attributes:
        iter: the current iteration.
        start_iter, max_iter: training runs in [start_iter, max_iter).
        storage: the `EventStorage` open during training.
    """

    def __init__(self) -> None:
        self._hooks: list[HookBase] = []
        self.iter: int = 0
        self.start_iter: int = 0
        self.max_iter: int
        self.storage: EventStorage
        _log_api_usage("trainer." + type(self).__name__)

    def register_hooks(self, hooks: Sequence[HookBase | None]) -> None:
        """Append hooks, called in the order of registration; `None` is skipped."""
        wanted = [hook for hook in hooks if hook is not None]
        for hook in wanted:
            if not isinstance(hook, HookBase):
                raise TypeError(f"a hook must be a HookBase, got {type(hook).__name__}")
            hook.trainer = weakref.proxy(self)  # weak, so that there is no cycle
        self._hooks.extend(wanted)

    def train(self, start_iter: int, max_iter: int) -> None:
        """Run iterations start_iter, ..., max_iter - 1."""
        logger = logging.getLogger(__name__)
        logger.info("Starting training from iteration %d", start_iter)
        self.iter, self.start_iter, self.max_iter = start_iter, start_iter, max_iter
        with EventStorage(start_iter) as self.storage:
            try:
                self.before_train()
                self._run_steps()
            except Exception:
                logger.exception("Exception during training:")
                raise
            finally:
                self.after_train()

    def _run_steps(self) -> None:
        for iteration in range(self.start_iter, self.max_iter):
            self.iter = iteration
            self.before_step()
            self.run_step()
            self.after_step()
        self.iter += 1  # hooks recognise a finished run by iter == max_iter

    def before_train(self) -> None:
        for hook in self._hooks:
            hook.before_train()

    def after_train(self) -> None:
        self.storage.iter = self.iter
        for hook in self._hooks:
            hook.after_train()

    def before_step(self) -> None:
        self.storage.iter = self.iter
        for hook in self._hooks:
            hook.before_step()

    def after_backward(self) -> None:
        for hook in self._hooks:
            hook.after_backward()

    def after_step(self) -> None:
        for hook in self._hooks:
            hook.after_step()

    def run_step(self) -> None:
        raise NotImplementedError

    def state_dict(self) -> dict:
        """Return the iteration and the states of the hooks, by class name."""
        state: dict[str, Any] = {"iteration": self.iter}
        hooks = {}
        for hook in self._hooks:
            name, hook_state = type(hook).__qualname__, hook.state_dict()
            if hook_state and name not in hooks:  # of several hooks of a class the first is stored
                hooks[name] = hook_state
        if hooks:
            state["hooks"] = hooks
        return state

    def load_state_dict(self, state_dict: dict) -> None:
        """Restore the result of `state_dict`; states of unknown hooks are logged and dropped."""
        logger = logging.getLogger(__name__)
        self.iter = state_dict["iteration"]
        for name, state in state_dict.get("hooks", {}).items():
            hook = next((h for h in self._hooks if type(h).__qualname__ == name), None)
            if hook is None:
                logger.warning("Cannot find the hook '%s', its state_dict is ignored.", name)
            else:
                hook.load_state_dict(state)


class SimpleTrainer(TrainerBase):
    """Trainer with one optimizer, one data loader, and one model that returns a dict of losses.

    Args:
        model: put into training mode here; called with what the loader yields.
        data_loader: an infinite iterable.
        gather_metric_period: iterations between gathering the metrics, which synchronises with the
            GPU; in between they are not written.
        zero_grad_before_forward: clear gradients before the forward pass rather than before the
            backward pass: less memory, no overlap with the GPU's work.
        async_write_metrics: write metrics in a separate thread, to avoid waiting for the GPU.
    """

    def __init__(
        self,
        model: nn.Module,
        data_loader: Iterable,
        optimizer: torch.optim.Optimizer,
        gather_metric_period: int = 1,
        zero_grad_before_forward: bool = False,
        async_write_metrics: bool = False,
    ) -> None:
        super().__init__()
        model.train()
        self.model = model
        self.data_loader = data_loader
        self._data_loader_iter_obj: Iterator | None = None
        self.optimizer = optimizer
        self.gather_metric_period = gather_metric_period
        self.zero_grad_before_forward = zero_grad_before_forward
        self.async_write_metrics = async_write_metrics
        self.concurrent_executor = ThreadPoolExecutor(max_workers=1)
        self._last_write: Future | None = None

    def run_step(self) -> None:
        """Run one iteration: data, forward, backward, hooks, metrics, optimizer step."""
        self._check_mode()
        start = time.perf_counter()
        data = next(self._data_loader_iter)
        # The time that training waited for the loader, not the time to load the batch.
        data_time = time.perf_counter() - start
        if self.zero_grad_before_forward:
            self.optimizer.zero_grad()
        loss_dict, losses = self._forward(data)
        if not self.zero_grad_before_forward:
            self.optimizer.zero_grad()
        self._backward(losses)
        self.after_backward()
        # Before the step: a loss that is not finite is raised here and does not reach the weights.
        self._write(loss_dict, data_time)
        self._step_optimizer()

    def _forward(self, data: Any) -> tuple[Mapping[str, Tensor], Tensor]:
        return _summed(self.model(data))

    def _backward(self, losses: Tensor) -> None:
        losses.backward()

    def _step_optimizer(self) -> None:
        self.optimizer.step()

    def _check_mode(self) -> None:
        if not self.model.training:
            raise RuntimeError(
                f"[{type(self).__name__}] the model is in eval mode; a hook forgot model.train()"
            )

    @property
    def _data_loader_iter(self) -> Iterator:
        # Workers start at the first step, not at construction.
        if self._data_loader_iter_obj is None:
            self._data_loader_iter_obj = iter(self.data_loader)
        return self._data_loader_iter_obj

    def reset_data_loader(self, data_loader_builder: Callable[[], Iterable]) -> None:
        """Replace the data loader; the old one is freed before the new one is built."""
        # Its workers hold memory, so that two loaders at once might not fit.
        del self.data_loader
        self._data_loader_iter_obj = None
        self.data_loader = data_loader_builder()

    def _write(self, loss_dict: Mapping[str, Tensor], data_time: float) -> None:
        if not self.async_write_metrics:
            self._write_metrics(loss_dict, data_time)
            return
        if self._last_write is not None and self._last_write.done():
            self._last_write.result()  # a non-finite loss is raised here, in the main thread
        self._last_write = self.concurrent_executor.submit(
            self._write_metrics, loss_dict, data_time, iter=self.iter
        )

    def _write_metrics(
        self,
        loss_dict: Mapping[str, Tensor],
        data_time: float,
        prefix: str = "",
        iter: int | None = None,
    ) -> None:
        iteration = self.iter if iter is None else iter
        if (iteration + 1) % self.gather_metric_period == 0:
            self.write_metrics(loss_dict, data_time, iteration, prefix)

    @staticmethod
    def write_metrics(
        loss_dict: Mapping[str, Tensor], data_time: float, cur_iter: int, prefix: str = ""
    ) -> None:
        """Record the losses, their mean over processes, their sum and the data time.

        Args:
            loss_dict: scalars by name.
            data_time: seconds this process waited for data; the maximum over processes is kept.
            prefix: prefix of the names of the scalars.

        Raises:
            FloatingPointError: the sum of the losses is not finite.
        """
        metrics = {name: value.detach().cpu().item() for name, value in loss_dict.items()}
        metrics["data_time"] = data_time
        storage = get_event_storage()
        storage.put_scalar("rank_data_time", data_time, cur_iter=cur_iter)
        gathered = comm.gather(metrics)
        if not comm.is_main_process():
            return
        # All processes wait for the slowest one.
        slowest = float(np.max([m.pop("data_time") for m in gathered]))
        storage.put_scalar("data_time", slowest, cur_iter=cur_iter)
        means: dict[str, Any] = {
            name: float(np.mean([m[name] for m in gathered])) for name in gathered[0]
        }
        total = sum(means.values())
        if not np.isfinite(total):
            raise FloatingPointError(
                f"Loss became infinite or NaN at iteration={cur_iter}!\nloss_dict = {means}"
            )
        storage.put_scalar(f"{prefix}total_loss", total, cur_iter=cur_iter)
        if len(means) > 1:
            storage.put_scalars(cur_iter=cur_iter, **means)

    def state_dict(self) -> dict:
        return {**super().state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state_dict: dict) -> None:
        super().load_state_dict(state_dict)
        self.optimizer.load_state_dict(state_dict["optimizer"])

    def after_train(self) -> None:
        super().after_train()
        self.concurrent_executor.shutdown(wait=True)


def _summed(losses: Tensor | dict[str, Tensor]) -> tuple[dict[str, Tensor], Tensor]:
    if isinstance(losses, Tensor):
        return {"total_loss": losses}, losses
    return losses, sum(losses.values())  # type: ignore[return-value]


class AMPTrainer(SimpleTrainer):
    """`SimpleTrainer` in automatic mixed precision (AMP), with a scaled loss.

    Args:
        grad_scaler: by default a new `torch.amp.GradScaler`; on CPU and in bfloat16 it may be
            disabled, which makes it a no-op.
        precision: `torch.float16` or `torch.bfloat16`; on a CPU float16, which is slower there
            than float32 by orders of magnitude, is replaced by bfloat16 with a warning.
        log_grad_scaler: record the scale as "[metric]grad_scaler".
        others: as in `SimpleTrainer`.
    """

    def __init__(
        self,
        model: nn.Module,
        data_loader: Iterable,
        optimizer: torch.optim.Optimizer,
        gather_metric_period: int = 1,
        zero_grad_before_forward: bool = False,
        grad_scaler: torch.amp.GradScaler | None = None,
        precision: torch.dtype = torch.float16,
        log_grad_scaler: bool = False,
        async_write_metrics: bool = False,
    ) -> None:
        parallel = isinstance(model, DistributedDataParallel | DataParallel)
        devices: Any = model.device_ids if parallel else None
        if devices and len(devices) > 1:
            raise ValueError("AMPTrainer wants one device in each process")
        super().__init__(
            model,
            data_loader,
            optimizer,
            gather_metric_period,
            zero_grad_before_forward,
            async_write_metrics=async_write_metrics,
        )
        self._device = next((p.device.type for p in model.parameters()), "cpu")
        self.grad_scaler = grad_scaler or torch.amp.GradScaler(self._device)
        if self._device == "cpu" and precision == torch.float16:
            logger = logging.getLogger(__name__)
            logger.warning("float16 is too slow on a CPU: mixed precision is in bfloat16 instead.")
            precision = torch.bfloat16
        self.precision = precision
        self.log_grad_scaler = log_grad_scaler

    def _forward(self, data: Any) -> tuple[Mapping[str, Tensor], Tensor]:
        with torch.autocast(self._device, dtype=self.precision):
            return super()._forward(data)

    def _backward(self, losses: Tensor) -> None:
        self.grad_scaler.scale(losses).backward()
        if self.log_grad_scaler:
            storage = get_event_storage()
            storage.put_scalar("[metric]grad_scaler", self.grad_scaler.get_scale())

    def _step_optimizer(self) -> None:
        self.grad_scaler.step(self.optimizer)
        self.grad_scaler.update()

    def state_dict(self) -> dict:
        return {**super().state_dict(), "grad_scaler": self.grad_scaler.state_dict()}

    def load_state_dict(self, state_dict: dict) -> None:
        super().load_state_dict(state_dict)
        if state_dict["grad_scaler"]:  # a disabled scaler has an empty state
            self.grad_scaler.load_state_dict(state_dict["grad_scaler"])
