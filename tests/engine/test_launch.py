import argparse
from pathlib import Path

import pytest
import torch

from d2ext.engine.launch import RankInfo, first_host, launch, started_rank, world_size
from d2ext.errors import ConfigError, DataError, UserError
from detectron2.utils import comm
from tests.helpers.training import tiny_cfg
from tests.helpers.workers import complain, end_second, train


def arguments(**given: object) -> argparse.Namespace:
    usual = {"num_gpus": 1, "num_machines": 1, "machine_rank": 0, "dist_url": "auto"}
    return argparse.Namespace(**{**usual, **given})


def test_one_process_is_no_group() -> None:
    assert launch(lambda args, more: (comm.get_world_size(), more), arguments(), 5) == (1, 5)


@pytest.mark.slow
def test_two_processes_train_one_model(tmp_path: Path) -> None:
    tiny_cfg(tmp_path)  # writes the data
    launch(train, arguments(num_gpus=2), tmp_path, device="cpu")
    (size, first), (_, second) = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    assert size == 2
    same = {name for name in first if torch.equal(first[name], second[name])}
    assert {"head.weight", "backbone.0.weight", "pos_embed"} <= same
    assert "backbone.1.running_mean" not in same  # each saw its own images
    assert (tmp_path / "out" / "model_final.pth").exists()


@pytest.mark.slow
def test_a_users_mistake_in_any_process_arrives_as_it_is() -> None:
    with pytest.raises(DataError, match=r"^a\.json: broken$"):
        launch(complain, arguments(num_gpus=2), device="cpu")


@pytest.mark.slow
def test_a_process_that_the_system_ends_is_one_message() -> None:
    with pytest.raises(UserError, match="process 1 of the run was ended by SIGKILL"):
        launch(end_second, arguments(num_gpus=2), device="cpu")


def test_torchrun_is_honoured() -> None:
    environment = {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4"}
    assert started_rank(environment) is None
    assert started_rank({**environment, "MASTER_ADDR": "a"}) == RankInfo(5, 8, 1, 4, "env://")


def test_tasks_of_slurm_are_honoured() -> None:
    step = {"SLURM_STEP_NUM_TASKS": "8", "SLURM_STEP_NUM_NODES": "2", "SLURM_JOB_ID": "7"}
    place = {"SLURM_PROCID": "5", "SLURM_LOCALID": "1", "SLURM_STEP_NODELIST": "gpu[07-08]"}
    assert started_rank({**step, **place}) == RankInfo(5, 8, 1, 4, "tcp://gpu07:20007")
    named = {"MASTER_ADDR": "b", "MASTER_PORT": "9"}
    assert started_rank({**step, **place, **named}) == RankInfo(5, 8, 1, 4, "tcp://b:9")
    with pytest.raises(ConfigError, match="8 tasks on 3 nodes"):
        started_rank({**step, **place, "SLURM_STEP_NUM_NODES": "3"})


def test_a_slurm_job_without_tasks_is_one_process() -> None:
    assert started_rank({"SLURM_JOB_ID": "7", "SLURM_NTASKS": "8", "SLURM_PROCID": "0"}) is None


@pytest.mark.parametrize(
    ("nodes", "first"),
    [
        ("one", "one"),
        ("a-1,b", "a-1"),
        ("gpu[07-09,12],cpu1", "gpu07"),
        ("n[1,3].site,m", "n1.site"),
    ],
)
def test_the_first_host_of_a_list(nodes: str, first: str) -> None:
    assert first_host(nodes) == first


def test_several_machines_must_say_where_they_meet() -> None:
    assert world_size(arguments(num_gpus=2, num_machines=3)) == 6
    with pytest.raises(ConfigError, match="--dist-url tcp://HOST:PORT"):
        launch(complain, arguments(num_machines=2))
    with pytest.raises(ConfigError, match="a free port; got nowhere"):
        launch(complain, arguments(num_machines=2, dist_url="nowhere"))
    with pytest.raises(ConfigError, match="--machine-rank 2: must be 0 to 1"):
        launch(complain, arguments(num_machines=2, machine_rank=2))
