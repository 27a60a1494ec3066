"""Learning rate factors of the schedules for COCO: 1x is 90k iterations of 16 images."""

from fvcore.common.param_scheduler import MultiStepParamScheduler

from detectron2.config import LazyCall
from detectron2.solver import WarmupParamScheduler


def coco_schedule(times: int) -> object:
    """Build a schedule of two steps by a tenth, 60k and 20k (if short: 30k, 10k) before the end."""
    total = 90_000 * times
    # As in the first published schedules, which were tuned; 2x has always had the steps of 1x.
    steps = [60_000, 80_000, 90_000] if times <= 2 else [total - 60_000, total - 20_000, total]
    return LazyCall(WarmupParamScheduler)(
        scheduler=LazyCall(MultiStepParamScheduler)(values=[1.0, 0.1, 0.01], milestones=steps),
        warmup_length=1000 / total,
        warmup_method="linear",
        warmup_factor=0.001,
    )


lr_multiplier_1x = coco_schedule(1)
lr_multiplier_2x = coco_schedule(2)
lr_multiplier_3x = coco_schedule(3)
lr_multiplier_6x = coco_schedule(6)
lr_multiplier_9x = coco_schedule(9)
