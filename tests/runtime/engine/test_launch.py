"""Processes of a distributed run, over gloo."""

import json
from pathlib import Path

import pytest
import torch

import d2ext  # noqa: F401
from d2ext._detectron2 import provider
from detectron2.engine import create_ddp_model, launch
from detectron2.utils import comm


def note(folder: str) -> None:
    """Record the process's view of the run; module-level, because it is spawned."""
    model = create_ddp_model(torch.nn.Linear(1, 1, bias=False), broadcast_buffers=False)
    torch.nn.init.ones_(next(model.parameters()))
    model(torch.full((1, 1), comm.get_rank() + 1.0)).sum().backward()
    found = {
        "world": comm.get_world_size(),
        "local": comm.get_local_rank(),
        "sum": sum(comm.all_gather(comm.get_rank() + 1)),
        "gradient": next(model.parameters()).grad.item(),
    }
    Path(folder, f"{comm.get_rank()}.json").write_text(json.dumps(found))


def test_one_process_is_a_plain_call(tmp_path: Path):
    launch(note, 1, args=(str(tmp_path),))
    assert json.loads((tmp_path / "0.json").read_text()) == {
        "world": 1, "local": 0, "sum": 1, "gradient": 1.0,
    }  # fmt: skip


@pytest.mark.slow
@pytest.mark.skipif(provider() == "official", reason="the official one needs a GPU a process")
@pytest.mark.skipif(torch.cuda.is_available(), reason="NCCL would need two GPUs")
def test_two_processes_share_gradients_on_a_cpu(tmp_path: Path):
    launch(note, 2, dist_url="auto", args=(str(tmp_path),))
    found = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)]
    assert [f["local"] for f in found] == [0, 1]
    assert all(f["world"] == 2 and f["sum"] == 3 and f["gradient"] == 1.5 for f in found)


def test_a_port_cannot_be_found_automatically_on_several_machines():
    with pytest.raises((ValueError, AssertionError)):
        launch(note, 1, num_machines=2, dist_url="auto", args=("",))
