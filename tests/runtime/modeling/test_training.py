"""Training losses match Detectron2, given weights, data and seed."""

import pytest

import d2ext  # noqa: F401
from detectron2.engine import SimpleTrainer
from detectron2.solver import build_lr_scheduler, build_optimizer
from detectron2.utils.env import seed_all_rng
from detectron2.utils.events import EventStorage
from tests.helpers.runtime_rcnn import batch, tiny_config, tiny_model

CHANGES = {
    "MODEL__MASK_ON": True,
    "MODEL__RPN__BATCH_SIZE_PER_IMAGE": 32,  # fewer than there are: drawn at random
    "MODEL__ROI_HEADS__BATCH_SIZE_PER_IMAGE": 16,
    "SOLVER__BASE_LR": 0.002,
    "SOLVER__WARMUP_ITERS": 4,
    "SOLVER__STEPS": (6,),
    "SOLVER__MAX_ITER": 8,
}
LOSSES = [7.640372, 7.535578, 3.442515, 3.097476, 3.047389, 2.855302, 3.258596, 3.085170]


def test_the_losses_of_a_mask_rcnn_match_detectron2():
    model, cfg = tiny_model(**CHANGES), tiny_config(**CHANGES)
    optimizer = build_optimizer(cfg, model)
    schedule = build_lr_scheduler(cfg, optimizer)
    trainer = SimpleTrainer(model.train(), [batch()] * cfg.SOLVER.MAX_ITER, optimizer)
    losses = []
    seed_all_rng(1)
    with EventStorage() as trainer.storage:
        for trainer.iter in range(cfg.SOLVER.MAX_ITER):
            trainer.run_step()
            schedule.step()
            losses.append(trainer.storage.latest()["total_loss"][0])
    assert losses == pytest.approx(LOSSES, abs=1e-4)
