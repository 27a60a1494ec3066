"""The stream of samples is a function of seed and position, whoever loads it and from where."""

import contextlib
import random
from itertools import islice

import numpy as np
import pytest
import torch
from PIL import Image

from d2ext.data import (
    build_test_loader,
    build_train_loader,
    iterations_per_epoch,
    register_datasets,
)
from d2ext.data.catalog import reading_ahead
from d2ext.data.loader import seeded
from d2ext.errors import ConfigError, DataError
from detectron2.data import DatasetCatalog


@pytest.fixture
def training(cfg, numbered):
    """A config that trains on 13 images."""
    files = numbered(13)
    cfg.DATASETS.REGISTER = [
        {"name": "numbered", "path": str(files.annotations), "images": str(files.images)}
    ]
    cfg.DATASETS.TRAIN = ("numbered",)
    register_datasets(cfg)
    return cfg


def take(cfg, count: int, start: int = 0) -> list[list[tuple]]:
    """What distinguishes samples: file, pixels and boxes after augmentation."""
    batches = islice(build_train_loader(cfg, start), count)
    return [[_summary(item) for item in batch] for batch in batches]


def _summary(item: dict) -> tuple:
    boxes = item["instances"].gt_boxes.tensor
    return item["file_name"], item["image"].numpy().tobytes(), boxes.numpy().tobytes()


def test_workers_do_not_change_the_stream(training):
    alone = take(training, 12)
    training.DATALOADER.NUM_WORKERS = 2
    assert take(training, 12) == alone


@pytest.mark.parametrize("grouping", [True, False])
@pytest.mark.parametrize("sampler", ["TrainingSampler", "RepeatFactorTrainingSampler"])
def test_a_stream_taken_up_later_is_the_tail_of_the_whole(training, grouping, sampler):
    training.DATALOADER.ASPECT_RATIO_GROUPING = grouping
    training.DATALOADER.SAMPLER_TRAIN = sampler
    training.DATALOADER.REPEAT_THRESHOLD = 0.5
    whole = take(training, 20)
    assert take(training, 5, start=15) == whole[15:]
    assert take(training, 2, start=1) == whole[1:3]


def test_another_seed_gives_another_stream(training):
    first = take(training, 5)
    training.SEED += 1
    assert take(training, 5) != first


def test_other_random_code_does_not_change_the_stream_nor_the_stream_it(training):
    first = take(training, 4)
    for module in (random, np.random, torch.random):
        (module.manual_seed if module is torch.random else module.seed)(99)
    before = random.random(), np.random.rand(), torch.rand(1).item()
    for module in (random, np.random, torch.random):
        (module.manual_seed if module is torch.random else module.seed)(99)
    assert take(training, 4) == first
    assert (random.random(), np.random.rand(), torch.rand(1).item()) == before


def test_starting_workers_draws_nothing_from_the_global_generator(training):
    training.DATALOADER.NUM_WORKERS = 1
    before = torch.get_rng_state()
    take(training, 1)
    list(build_test_loader(training, "numbered"))
    assert torch.equal(torch.get_rng_state(), before)


def test_an_image_is_augmented_anew_in_every_epoch(training):
    training.DATALOADER.ASPECT_RATIO_GROUPING = False
    training.SOLVER.IMS_PER_BATCH = 1
    samples = [batch[0] for batch in take(training, 39)]
    for epoch in range(3):
        assert len({name for name, _, _ in samples[13 * epoch : 13 * epoch + 13]}) == 13
    assert len(set(samples)) > 26


def test_a_batch_is_of_one_orientation_where_they_are_grouped(training):
    batches = list(islice(build_train_loader(training), 30))
    wide = [[item["width"] > item["height"] for item in batch] for batch in batches]
    assert all(len(set(group)) == 1 for group in wide)
    training.DATALOADER.ASPECT_RATIO_GROUPING = False
    batches = list(islice(build_train_loader(training), 30))
    assert any(len({item["width"] > item["height"] for item in batch}) == 2 for batch in batches)


@pytest.mark.slow
def test_spawned_workers_give_the_same_stream(training):
    first = take(training, 3)
    training.DATALOADER.NUM_WORKERS = 1
    loader = build_train_loader(training)
    loader.multiprocessing_context = "spawn"
    batches = list(islice(loader, 3))
    assert [[_summary(item) for item in batch] for batch in batches] == first


def test_workers_know_the_names_that_the_config_registers(training):
    training.DATALOADER.NUM_WORKERS = 1
    prepare = build_train_loader(training).worker_init_fn
    DatasetCatalog.remove("numbered")  # as in a process that was spawned
    prepare(0)
    assert "numbered" in DatasetCatalog.list()


def test_a_mapper_of_the_users_own_takes_detectron2s_place(training):
    loader = build_train_loader(training, mapper=lambda item: (item["image_id"], random.random()))
    (first, draw), (second, other) = next(iter(loader))
    assert {first, second} <= set(range(1, 14))
    assert draw != other


@pytest.mark.parametrize("grouping", [True, False])
def test_processes_share_the_images_among_them(training, monkeypatch, grouping):
    training.SOLVER.IMS_PER_BATCH = 4
    training.DATALOADER.ASPECT_RATIO_GROUPING = grouping
    seen = []
    for rank in range(2):
        monkeypatch.setattr("detectron2.utils.comm.get_world_size", lambda: 2)
        monkeypatch.setattr("detectron2.utils.comm.get_rank", lambda rank=rank: rank)
        batches = list(islice(build_train_loader(training), 2))  # within the first epoch
        assert [len(batch) for batch in batches] == [2, 2]
        seen.append({item["file_name"] for batch in batches for item in batch})
    assert not seen[0] & seen[1]


def test_a_batch_that_does_not_divide_among_processes_is_refused(training, monkeypatch):
    monkeypatch.setattr("detectron2.utils.comm.get_world_size", lambda: 3)
    training.SOLVER.IMS_PER_BATCH = 4
    with pytest.raises(ConfigError, match=r"SOLVER\.IMS_PER_BATCH is 4.*multiple of 3"):
        build_train_loader(training)


def test_an_unknown_sampler_lists_the_known_ones(training):
    training.DATALOADER.SAMPLER_TRAIN = "TrainSampler"
    with pytest.raises(ConfigError, match=r"'TrainSampler' is unknown.*TrainingSampler"):
        build_train_loader(training)


def test_a_seed_must_have_been_chosen(training):
    training.SEED = -1
    with pytest.raises(ValueError, match="SEED"):
        build_train_loader(training)


def test_images_without_objects_are_left_out_where_the_config_says_so(cfg, coco):
    cfg.DATASETS.REGISTER = [
        {"name": "three", "path": str(coco.annotations), "images": str(coco.images)}
    ]
    cfg.DATASETS.TRAIN = ("three",)
    register_datasets(cfg)
    cfg.SOLVER.IMS_PER_BATCH = 1
    assert iterations_per_epoch(cfg) == 3
    assert len({batch[0][0] for batch in take(cfg, 3)}) == 3
    cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS = True
    assert iterations_per_epoch(cfg) == 2
    assert len({batch[0][0] for batch in take(cfg, 8)}) == 2


def test_an_epoch_is_rounded_up_to_whole_batches(training):
    training.SOLVER.IMS_PER_BATCH = 4
    assert iterations_per_epoch(training) == 4
    training.SOLVER.IMS_PER_BATCH = 64
    assert iterations_per_epoch(training) == 1


@pytest.mark.parametrize("filter_empty", [True, False])
def test_only_crowd_regions_are_nothing_to_learn_from(cfg, coco, filter_empty):
    for item in coco.document["annotations"]:
        item["iscrowd"] = 1
    coco.write()
    cfg.DATASETS.REGISTER = [
        {"name": "crowds", "path": str(coco.annotations), "images": str(coco.images)}
    ]
    cfg.DATASETS.TRAIN = ("crowds",)
    register_datasets(cfg)
    cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS = filter_empty
    with pytest.raises(DataError, match="crowds: no annotations to learn from"):
        build_train_loader(cfg)


def test_an_image_that_was_damaged_since_it_was_checked_is_named(training, tmp_path):
    with reading_ahead():  # as while a run is prepared
        iterations_per_epoch(training)
    for path in (tmp_path / "numbered" / "images").iterdir():
        path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(DataError, match=r"images.*png: the image cannot be used"):
        take(training, 1)


def test_an_image_of_another_size_since_it_was_checked_is_named(cfg, coco):
    cfg.DATASETS.REGISTER = [
        {"name": "sizes", "path": str(coco.annotations), "images": str(coco.images)}
    ]
    cfg.DATASETS.TRAIN = ("sizes",)
    register_datasets(cfg)
    cfg.DATALOADER.ASPECT_RATIO_GROUPING = False
    with reading_ahead():
        iterations_per_epoch(cfg)
    Image.new("RGB", (31, 24)).save(coco.images / "a.png")
    with pytest.raises(DataError, match=r"a\.png: the image cannot be used"):
        take(cfg, 3)


def test_the_test_loader_gives_every_image_once(training):
    names = [batch[0]["file_name"] for batch in build_test_loader(training, "numbered")]
    assert len(names) == len(set(names)) == 13


def test_seeding_is_undone_when_the_block_fails():
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    with contextlib.suppress(RuntimeError), seeded(1, 2):
        random.random(), np.random.rand(), torch.rand(1)
        raise RuntimeError
    after = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    assert torch.equal(before[0], after[0])
    assert before[1:] == after[1:]


def test_seeds_differ_by_every_part():
    def draw(*seed: int) -> tuple:
        with seeded(*seed):
            return random.random(), np.random.rand(), torch.rand(1).item()

    draws = [draw(1, 2), draw(1, 3), draw(2, 2), draw(1, 2)]
    assert draws[0] == draws[3]
    for values in zip(*draws[:3], strict=True):
        assert len(set(values)) == 3
