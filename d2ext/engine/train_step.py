"""One training iteration: forward, backward and optimizer step, with gradient accumulation."""

import logging
import math
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from d2ext.engine.accumulation import batch_weights
from d2ext.engine.clipping import Clip
from d2ext.engine.finite import non_finite_parameters
from d2ext.engine.seeding import seed_step
from d2ext.errors import ConfigError, UserError
from d2ext.text import first_few
from detectron2.engine import SimpleTrainer
from detectron2.utils import comm
from detectron2.utils.events import get_event_storage

Batch = list[dict[str, Any]]
SHOWN = 16  # maximum number of image names in a message

logger = logging.getLogger(__name__)


class TrainStep(SimpleTrainer):
    """Detectron2's simple trainer with accumulation, AMP, gradient clipping and checked losses.

    Args:
        model: returns a dictionary of scalar losses, or one loss.
        data_loader: yields batches; not iterated before the first iteration.
        accumulate: number of batches whose gradients make one optimizer step, weighed by their
            objects; see `batch_weights`.
        dtype: of the forward pass under autocast; None: no autocast.
        clip: clips the gradients in place; None: no clipping.
        seed: seeds the random numbers of every iteration.
    """

    def __init__(
        self,
        model: nn.Module,
        data_loader: Iterable[Batch],
        optimizer: torch.optim.Optimizer,
        *,
        accumulate: int = 1,
        dtype: torch.dtype | None = None,
        clip: Clip | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(model, data_loader, optimizer)
        self.accumulate, self.dtype, self.clip, self.seed = accumulate, dtype, clip, seed
        self.device = next(model.parameters()).device.type
        # bfloat16 has float32's range, so its gradients do not underflow and need no scaling.
        scaled = dtype is torch.float16 and self.device == "cuda"
        self.scaler = torch.amp.GradScaler(self.device, enabled=scaled)
        self.parts = 1  # that each batch is computed in, more where memory runs out
        self._batches: Iterator[Batch] | None = None

    def run_step(self) -> None:
        """Run one optimizer step.

        Raises:
            UserError: a loss is not finite; the weights are unchanged.
        """
        self.optimizer.zero_grad()
        found = [self._next_batch() for _ in range(self.accumulate)]
        batches, waited = [batch for batch, _ in found], sum(seconds for _, seconds in found)
        losses, weights, names = self._forward_backward_all(batches)
        self._check_all_used()
        self.after_backward()
        norm = self._clip()
        metrics = _sum(self._finite(losses, names), weights)  # raises before the weights change
        if norm is not None:
            metrics["grad_norm"] = norm.item()
        log_metrics(metrics, waited)
        self.scaler.step(self.optimizer)
        self.scaler.update()

    def state_dict(self) -> dict[str, Any]:
        own = {"optimizer_class": _class(self.optimizer), "grad_scaler": self.scaler.state_dict()}
        return {**super().state_dict(), **own}

    def state_differences(self, state: dict[str, Any]) -> list[str]:
        """List in words why the optimizer cannot load the one of `state`."""
        saved, own = state["optimizer_class"], _class(self.optimizer)
        if saved != own:
            return [f"its optimizer is {saved}, that of the config is {own} (SOLVER.OPTIMIZER)"]
        before, now = _group_sizes(state["optimizer"]), _group_sizes(self.optimizer.state_dict())
        if before != now:
            return [f"its optimizer has groups of {before} tensors, that of the config of {now}"]
        return []

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        if state_dict.get("grad_scaler"):  # empty if loss scaling was off
            self.scaler.load_state_dict(state_dict["grad_scaler"])

    def close(self) -> None:
        """End the workers of the data loader."""
        self._batches = None  # nothing else holds the iterator that they belong to

    def _next_batch(self) -> tuple[Batch, float]:
        """Return the next batch and the seconds spent waiting for it."""
        start = time.perf_counter()
        if self._batches is None:
            self._batches = iter(self.data_loader)
        return next(self._batches), time.perf_counter() - start

    def _synchronised(self, last: bool) -> AbstractContextManager:
        """Return a context that all-reduces gradients only with the last batch of a step."""
        if not last and isinstance(self.model, DistributedDataParallel):
            return self.model.no_sync()
        return nullcontext()

    @property
    def _own_model(self) -> nn.Module:
        if isinstance(self.model, DistributedDataParallel):
            return self.model.module
        return self.model

    @contextmanager
    def _explained(self, images: list[str]) -> Iterator[None]:
        """Turn whatever the model raises into a `UserError` where its weights are not finite."""
        try:
            yield
        except (UserError, KeyboardInterrupt):
            raise
        except Exception as error:
            bad = non_finite_parameters(self._own_model)
            if not bad:
                raise
            what = [f"weights are not finite ({first_few(bad, 3)})"]
            raise UserError(self._non_finite_message(what, {}, images)) from error

    def _check_all_used(self) -> None:
        """Name parameters without a gradient, over which DistributedDataParallel would stumble."""
        parallel = isinstance(self.model, DistributedDataParallel)
        if not parallel or self.model.find_unused_parameters:
            return
        unused = [n for n, p in self._own_model.named_parameters() if _lacks_gradient(p)]
        if unused:
            raise ConfigError(
                f"the losses do not depend on {first_few(unused)}, which several processes cannot "
                "train together. Set SOLVER.FIND_UNUSED_PARAMETERS True, or freeze them."
            )

    def _forward_backward_all(
        self, batches: list[Batch]
    ) -> tuple[list[dict[str, Tensor]], list[float], list[list[str]]]:
        """Add up the gradients of all batches, each in more parts from when memory runs out.

        Returns:
            Per part: its losses, their weight in the step, and the names of its images.
        """
        while True:
            parts = [part for batch in batches for part in _split(batch, self.parts)]
            weights = batch_weights(self._own_model, parts)
            names = [[str(image.get("file_name", "?")) for image in part] for part in parts]
            losses = []
            try:
                for i, (part, weight) in enumerate(zip(parts, weights, strict=True)):
                    with self._synchronised(i + 1 == len(parts)), self._explained(names[i]):
                        losses.append(self._forward_backward(part, i, weight))
                return losses, weights, names
            except torch.OutOfMemoryError as error:
                self._use_more_parts(max(map(len, batches)), error)
            # Behind the handler, whose error keeps the tensors of the failed pass alive.
            del losses
            self.optimizer.zero_grad()
            torch.cuda.empty_cache()

    def _use_more_parts(self, size: int, error: torch.OutOfMemoryError) -> None:
        """Double the parts that a batch of `size` images is computed in.

        Raises:
            UserError: it is one image by now, or other processes wait for this one.
        """
        if self.parts >= size or comm.get_world_size() > 1:
            raise UserError(
                f"iteration {self.iter}: out of memory with {-(-size // self.parts)} images in a "
                "pass. Lower SOLVER.IMS_PER_BATCH or INPUT.MIN_SIZE_TRAIN, or switch gradient "
                "checkpointing on (USE_CHECKPOINT True)."
            ) from error
        self.parts *= 2
        logger.warning(
            "iteration %d: out of memory: each batch is computed in %d parts from here on; "
            "SOLVER.IMS_PER_BATCH %d would fit at once",
            *(self.iter, self.parts, -(-size // self.parts)),
        )

    def _forward_backward(self, batch: Batch, part: int, weight: float) -> dict[str, Tensor]:
        seed_step(self.seed, comm.get_rank(), self.iter, part)
        with torch.autocast(self.device, dtype=self.dtype, enabled=self.dtype is not None):
            losses = self.model(batch)
        if isinstance(losses, Tensor):
            losses = {"total_loss": losses}
        total = sum(losses.values())
        self.scaler.scale(total * weight).backward()
        return {name: loss.detach() for name, loss in losses.items()}

    def _clip(self) -> Tensor | None:
        if self.clip is None:
            return None
        self.scaler.unscale_(self.optimizer)  # CLIP_VALUE is for gradients of the real loss
        groups = self.optimizer.param_groups
        return self.clip([p for g in groups for p in g["params"] if p.grad is not None])

    def _finite(
        self, losses: list[dict[str, Tensor]], names: list[list[str]]
    ) -> list[dict[str, float]]:
        """Convert losses to finite numbers, one dictionary per batch."""
        together = torch.stack([v.float() for terms in losses for v in terms.values()])
        numbers = iter(together.tolist())  # one device synchronisation for all losses
        read = [{name: next(numbers) for name in terms} for terms in losses]
        for terms, images in zip(read, names, strict=True):
            bad = [
                f"{name} is {value}" for name, value in terms.items() if not math.isfinite(value)
            ]
            if bad:
                if weights := non_finite_parameters(self._own_model):
                    bad.append(f"weights are not finite ({first_few(weights, 3)})")
                raise UserError(self._non_finite_message(bad, terms, images))
        return read

    def _non_finite_message(
        self, bad: list[str], terms: dict[str, float], images: list[str]
    ) -> str:
        others = ", ".join(f"{name} {v:.4g}" for name, v in terms.items() if math.isfinite(v))
        more = f" and {len(images) - SHOWN} more" if len(images) > SHOWN else ""
        return (
            f"iteration {self.iter}: {', '.join(bad)} (finite: {others or 'none'}). The images: "
            f"{', '.join(images[:SHOWN])}{more}. Lower SOLVER.BASE_LR, lengthen "
            "SOLVER.WARMUP_ITERS, enable SOLVER.CLIP_GRADIENTS, or look at these images' boxes."
        )


def log_metrics(metrics: dict[str, float], waited: float) -> None:
    """Log the mean over processes to the event storage, under Detectron2's names.

    Args:
        metrics: losses by name, and possibly "grad_norm".
        waited: seconds spent waiting for data; the slowest process counts.
    """
    gathered = comm.gather({**metrics, "data_time": waited})
    if not comm.is_main_process():
        return
    storage = get_event_storage()
    storage.put_scalar("data_time", max(each.pop("data_time") for each in gathered))
    mean = _mean(gathered)
    losses = [value for name, value in mean.items() if name != "grad_norm"]
    for name, value in {**mean, "total_loss": sum(losses)}.items():
        storage.put_scalar(name, value)


def _lacks_gradient(parameter: nn.Parameter) -> bool:
    return parameter.requires_grad and parameter.grad is None


def _sum(terms: list[dict[str, float]], weights: Sequence[float]) -> dict[str, float]:
    """Add up each name over the dictionaries, weighed."""
    names = dict.fromkeys(name for each in terms for name in each)
    pairs = list(zip(terms, weights, strict=True))
    return {name: sum(each.get(name, 0.0) * weight for each, weight in pairs) for name in names}


def _split(batch: Batch, parts: int) -> list[Batch]:
    """Split a batch into parts of nearly equal size."""
    ends = [round(len(batch) * i / parts) for i in range(parts + 1)]
    return [batch[a:b] for a, b in pairwise(ends) if b > a]


def _class(optimizer: torch.optim.Optimizer) -> str:
    return type(optimizer).__name__


def _group_sizes(state: dict[str, Any]) -> list[int]:
    return [len(group["params"]) for group in state["param_groups"]]


def _mean(terms: list[dict[str, float]]) -> dict[str, float]:
    """Average each name over the dictionaries that have it."""
    names = dict.fromkeys(name for each in terms for name in each)
    values = {name: [each[name] for each in terms if name in each] for name in names}
    return {name: sum(found) / len(found) for name, found in values.items()}
