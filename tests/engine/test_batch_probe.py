"""The search for a batch size, with a memory made up."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from d2ext.config import load_config
from d2ext.engine import batch_probe
from d2ext.engine.auto import resolve_auto
from d2ext.engine.batch_probe import largest_batch
from d2ext.errors import ConfigError
from tests.engine.test_auto import CPU, GPU, stats


@pytest.mark.parametrize(
    ("room", "start", "limit", "size"),
    [
        (100, 4, 32, 32),
        (20, 4, 32, 16),
        (7, 4, 32, 4),
        (3, 8, 32, 2),
        (1, 8, 32, 1),
        (50, 16, 6, 6),
    ],
)
def test_the_largest_size_that_fits_is_found(room: int, start: int, limit: int, size: int) -> None:
    tried: list[int] = []
    found = largest_batch(lambda n: tried.append(n) or n <= room, start, limit)
    assert found == size
    assert len(tried) == len(set(tried))
    assert max(tried) <= limit


def test_an_image_that_does_not_fit_is_an_error_with_remedies() -> None:
    with pytest.raises(ConfigError, match="not one image fits"):
        largest_batch(lambda n: False, 4, 32)


def test_the_batch_of_a_gpu_is_what_its_memory_holds_and_the_rate_follows() -> None:
    found = {}
    for room in (4, 20):
        cfg = load_config("configs/mask_rcnn_regnetx200m.yaml")
        probe = lambda cfg, stats, room=room: lambda size: size <= room  # noqa: E731
        resolve_auto(cfg, stats(1000, 640, 480), replace(GPU, probe=probe))
        found[room] = cfg.SOLVER
    assert (found[4].IMS_PER_BATCH, found[20].IMS_PER_BATCH) == (4, 16)
    assert pytest.approx(2 * found[4].BASE_LR, rel=1e-2) == found[20].BASE_LR


def test_a_small_data_set_keeps_eight_batches_per_epoch() -> None:
    cfg = load_config("configs/mask_rcnn_regnetx200m.yaml")
    resolve_auto(cfg, stats(50, 640, 480), replace(GPU, probe=lambda cfg, stats: lambda size: True))
    assert cfg.SOLVER.IMS_PER_BATCH == 4


@pytest.mark.parametrize(("cores", "batch"), [(1, 4), (8, 8), (64, 16)])
def test_the_batch_of_a_cpu_follows_its_cores(cores: int, batch: int) -> None:
    cfg = load_config("configs/mask_rcnn_regnetx200m.yaml")
    resolve_auto(cfg, stats(1000, 640, 480), replace(CPU, cores=cores))
    assert batch == cfg.SOLVER.IMS_PER_BATCH


def test_the_probe_takes_the_largest_images_and_changes_nothing() -> None:
    cfg = load_config("configs/mask_rcnn_regnetx200m.yaml", ["INPUT.MIN_SIZE_TRAIN", "(200, 320)"])
    before = cfg.dump()
    found = batch_probe._for_probe(cfg, stats_of_many())
    assert found.INPUT.MIN_SIZE_TRAIN == (320,)
    assert found.MODEL.ROI_HEADS.NUM_CLASSES == 3
    assert cfg.dump() == before


def stats_of_many():
    many = stats(100, 640, 480)
    many.num_images = 100
    return many


class MadeUpGPU:
    """A memory that holds a step of so many images, and what was done with it."""

    def __init__(self, room: int, optimizer_room: int) -> None:
        self.room, self.optimizer_room = room, optimizer_room
        self.share = 1.0
        self.shares: list[float] = []  # that steps were tried with

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def limit(share: float, device: int | None = None) -> None:
            self.share = share

        monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", limit)
        images = [{"size": 1}]
        monkeypatch.setattr(batch_probe, "build_train_loader", lambda cfg: [images])
        monkeypatch.setattr(batch_probe, "build_model", lambda cfg: StepIn(self))
        monkeypatch.setattr(batch_probe, "build_optimizer", lambda cfg, model: AdamIn(self, model))


class StepIn(nn.Module):
    def __init__(self, gpu: MadeUpGPU) -> None:
        super().__init__()
        self.gpu, self.w, self.images = gpu, nn.Parameter(torch.ones(1)), 0

    def forward(self, batch: list[dict[str, int]]) -> dict[str, torch.Tensor]:
        self.images = len(batch)
        self.gpu.shares.append(self.gpu.share)
        if self.images > self.gpu.room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return {"loss": self.w.sum()}


class AdamIn(torch.optim.AdamW):
    def __init__(self, gpu: MadeUpGPU, model: StepIn) -> None:
        super().__init__(model.parameters(), lr=0.0)
        self.gpu, self.model = gpu, model

    def step(self) -> None:
        if self.model.images > self.gpu.optimizer_room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        super().step()


@pytest.mark.parametrize(
    ("room", "optimizer_room", "size"),
    [(10, 10, 8), (10, 5, 4), (3, 100, 2)],
)
def test_the_step_of_the_optimizer_counts_and_the_training_gets_all_memory(
    monkeypatch: pytest.MonkeyPatch, room: int, optimizer_room: int, size: int
) -> None:
    gpu = MadeUpGPU(room, optimizer_room)
    gpu.install(monkeypatch)
    cfg = load_config("configs/mask_rcnn_regnetx200m.yaml", ["SOLVER.AMP.ENABLED", "False"])
    found = largest_batch(batch_probe.probe_memory(cfg, stats_of_many()), 4, 32)
    assert found == size
    assert set(gpu.shares) == {batch_probe.MEMORY_SHARE}
    assert gpu.share == 1.0


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_real_gpu_holds_a_small_batch() -> None:
    cfg = load_config("configs/mask_rcnn_regnetx200m.yaml", ["INPUT.MIN_SIZE_TRAIN", "(96,)"])
    assert batch_probe.probe_memory(cfg, stats_of_many())(2)
