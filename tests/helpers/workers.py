"""What the processes of the tests of launching do; they import it by name.

Run as a program it starts two ranks that load data until they are killed:

    python -m tests.helpers.workers FOLDER
"""

import argparse
import json
import os
import signal
import sys
import time
from pathlib import Path

import torch

from d2ext.config import get_cfg
from d2ext.data import build_train_loader
from d2ext.data.dataset_paths import register_specs
from d2ext.engine.launch import launch
from d2ext.errors import DataError
from d2ext.evaluation import build_evaluator
from detectron2.data import DatasetCatalog
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


def evaluate_share(
    args: argparse.Namespace, name: str, annotations: str, folder: Path, outputs: list[dict]
) -> None:
    """Evaluate every n-th image in each of n processes; the first one writes the results."""
    torch.set_num_threads(1)
    register_specs([{"name": name, "path": annotations}])
    items = DatasetCatalog.get(name)  # also fills the metadata
    evaluator = build_evaluator(get_cfg(), name, folder)
    evaluator.reset()
    share = slice(comm.get_rank(), None, comm.get_world_size())
    evaluator.process(items[share], outputs[share])
    results = evaluator.evaluate()
    if comm.is_main_process():
        (folder / "results.json").write_text(json.dumps(results), encoding="utf-8")


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
