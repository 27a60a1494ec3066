"""What the processes of the tests of launching do; they import it by name.

Run as a program it starts two ranks that load data until they are killed:

    python -m tests.helpers.workers FOLDER
"""

import argparse
import os
import signal
import sys
import time
from pathlib import Path

import torch

from d2ext.data import build_train_loader
from d2ext.engine.launch import launch
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


def end_second(args: argparse.Namespace) -> None:
    """End the second process as the system does where memory runs out."""
    if comm.get_rank() == 1:
        os.kill(os.getpid(), signal.SIGKILL)


def complain(args: argparse.Namespace) -> None:
    """Make a mistake in one process while the other waits for it."""
    if comm.get_rank() == 1:
        raise DataError("a.json: broken")
    comm.synchronize()


def load_and_wait(args: argparse.Namespace, folder: Path) -> None:
    """Start loader workers, which fill their queues, and wait; a file tells that they run."""
    torch.set_num_threads(1)
    batches = iter(build_train_loader(tiny_cfg(folder, "DATALOADER.NUM_WORKERS", 2)))
    next(batches)
    (folder / f"ready{comm.get_rank()}").touch()
    time.sleep(600)


if __name__ == "__main__":
    tiny_cfg(Path(sys.argv[1]))  # writes the data
    two = argparse.Namespace(num_gpus=2, num_machines=1, machine_rank=0, dist_url="auto")
    launch(load_and_wait, two, Path(sys.argv[1]), device="cpu")
