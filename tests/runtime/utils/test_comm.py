"""`detectron2.utils.comm`: in a single process, and between two processes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import d2ext  # noqa: F401
from detectron2.utils import comm

WORKER = """
import json, sys
import numpy as np, torch, torch.distributed as dist
import d2ext
from detectron2.utils import comm

rank, store = int(sys.argv[1]), sys.argv[2]
dist.init_process_group("gloo", init_method=store, rank=rank, world_size=2)
comm.create_local_process_group(2)
np.random.seed(rank)
reduced = comm.reduce_dict({"b": torch.tensor(2.0 * rank), "a": torch.tensor(1.0)})
found = {
    "ranks": [comm.get_rank(), comm.get_local_rank()],
    "sizes": [comm.get_world_size(), comm.get_local_size()],
    "main": comm.is_main_process(),
    "all": comm.all_gather({"rank": rank}),
    "gathered": comm.gather([rank] * (rank + 1)),
    "second": comm.gather(rank, dst=1),
    "seed": comm.shared_random_seed(),
    "sum": comm.reduce_dict({"x": torch.tensor(3.0)}, average=False)["x"].item(),
    "mean": [reduced["a"].item(), reduced["b"].item()],
}
comm.synchronize()
print(json.dumps(found))
dist.destroy_process_group()
"""


def test_collectives_are_trivial_in_a_single_process():
    assert (comm.get_rank(), comm.get_world_size(), comm.is_main_process()) == (0, 1, True)
    assert (comm.get_local_rank(), comm.get_local_size()) == (0, 1)
    assert comm.all_gather("x") == comm.gather("x") == ["x"]
    values = {"loss": torch.tensor(1.0)}
    assert comm.reduce_dict(values) is values
    assert 0 <= comm.shared_random_seed() < 2**31
    comm.synchronize()


def test_the_local_group_needs_a_distributed_run():
    with pytest.raises((RuntimeError, AssertionError)):
        comm.get_local_process_group()


def test_two_processes_gather_and_reduce(tmp_path: Path):
    store = (tmp_path / "store").as_uri()
    command = [sys.executable, "-c", WORKER]
    workers = [
        subprocess.Popen([*command, str(rank), store], stdout=subprocess.PIPE, text=True)
        for rank in range(2)
    ]
    outputs = [worker.communicate(timeout=120)[0] for worker in workers]
    first, second = (json.loads(output.splitlines()[-1]) for output in outputs)
    assert (first["ranks"], second["ranks"]) == ([0, 0], [1, 1])
    assert first["sizes"] == second["sizes"] == [2, 2]
    assert (first["main"], second["main"]) == (True, False)
    assert first["all"] == second["all"] == [{"rank": 0}, {"rank": 1}]
    assert (first["gathered"], second["gathered"]) == ([[0], [1, 1]], [])
    assert (first["second"], second["second"]) == ([], [0, 1])
    assert first["seed"] == second["seed"]
    assert (first["sum"], first["mean"]) == (6, [1, 1])
