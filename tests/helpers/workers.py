"""What the processes of the tests of launching do; they import it by name."""

import argparse
from pathlib import Path

import torch

from d2ext.errors import DataError
from detectron2.utils import comm
from tests.helpers.training import TinyTrainer, tiny_cfg


def train(args: argparse.Namespace, folder: Path) -> None:
    """Train and save what this process evaluated, with its rank and the number of its siblings."""
    torch.set_num_threads(1)
    options = ["SOLVER.ACCUMULATE", 2, "SOLVER.MAX_ITER", 4, "SOLVER.EMA.ENABLED", True]
    trainer = TinyTrainer(tiny_cfg(folder, *options, "TEST.VAL_LOSS", True))
    trainer.resume_or_load(resume=False)
    trainer.train()
    torch.save(
        (comm.get_local_size(), trainer.evaluated_weights()), folder / f"{comm.get_rank()}.pt"
    )


def complain(args: argparse.Namespace) -> None:
    """Make a mistake in one process while the other waits for it."""
    if comm.get_rank() == 1:
        raise DataError("a.json: broken")
    comm.synchronize()
