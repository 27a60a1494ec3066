"""Resolve epochs and the reference batch size to iterations and a learning rate."""

import math
from collections.abc import Collection

from d2ext.data import iterations_per_epoch
from detectron2.config import CfgNode

# Counted in iterations, and scaled by Detectron2's own auto_scale_workers, too.
_COUNTED = (("SOLVER", "WARMUP_ITERS"), ("SOLVER", "CHECKPOINT_PERIOD"), ("TEST", "EVAL_PERIOD"))


def resolve_schedule(cfg: CfgNode, given: Collection[str] = ()) -> list[str]:
    """Resolve `SOLVER.MAX_EPOCHS` and `SOLVER.REFERENCE_BATCH_SIZE` in place.

    Both keys are 0 afterwards. STEPS keep their share of MAX_ITER when epochs set the length. The
    learning rate of SGD scales linearly with the batch size (Goyal et al. 2017, arXiv:1706.02677),
    that of AdamW by its square root (Malladi et al. 2022, arXiv:2205.10287). Everything counted in
    iterations scales inversely.

    Args:
        given: keys of the command, whose values are for the batch size that is used.
    Returns:
        Lines for the log: what was changed.
    """
    return _use_reference_batch(cfg, given) + _use_epochs(cfg)


def _use_reference_batch(cfg: CfgNode, given: Collection[str]) -> list[str]:
    solver = cfg.SOLVER
    reference, batch = solver.REFERENCE_BATCH_SIZE, solver.IMS_PER_BATCH * solver.ACCUMULATE
    solver.REFERENCE_BATCH_SIZE = 0
    if reference in (0, batch):
        return []
    ratio = batch / reference
    solver.BASE_LR *= math.sqrt(ratio) if solver.OPTIMIZER == "ADAMW" else ratio
    if "SOLVER.MAX_ITER" not in given:
        _stretch(cfg, max(1, round(solver.MAX_ITER / ratio)))
    for section, key in _COUNTED:
        if cfg[section][key] > 0 and f"{section}.{key}" not in given:
            cfg[section][key] = max(1, round(cfg[section][key] / ratio))
    return [
        f"schedule of batch {reference} used at batch {batch}: BASE_LR {solver.BASE_LR:.6g}, "
        f"MAX_ITER {solver.MAX_ITER}, STEPS {tuple(solver.STEPS)}, "
        f"WARMUP_ITERS {solver.WARMUP_ITERS}"
    ]


def _use_epochs(cfg: CfgNode) -> list[str]:
    solver = cfg.SOLVER
    epochs, solver.MAX_EPOCHS = solver.MAX_EPOCHS, 0
    if epochs == 0:
        return []
    _stretch(cfg, math.ceil(epochs * iterations_per_epoch(cfg) / solver.ACCUMULATE))
    lines = [f"{epochs} epochs: MAX_ITER {solver.MAX_ITER}, STEPS {tuple(solver.STEPS)}"]
    # A warm-up of a long recipe would not end within few epochs.
    if solver.WARMUP_ITERS > solver.MAX_ITER // 4:
        solver.WARMUP_ITERS = solver.MAX_ITER // 4
        lines.append(f"WARMUP_ITERS {solver.WARMUP_ITERS}: a quarter of the training at most")
    return lines


def _stretch(cfg: CfgNode, iterations: int) -> None:
    """Set MAX_ITER and scale the STEPS of the learning rate with it."""
    solver = cfg.SOLVER
    ratio = iterations / max(1, solver.MAX_ITER)
    solver.STEPS = tuple(round(step * ratio) for step in solver.STEPS)
    solver.MAX_ITER = iterations
