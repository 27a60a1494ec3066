from itertools import islice

import pytest

from detectron2.config import get_cfg
from detectron2.data import (
    DatasetCatalog,
    MetadataCatalog,
    build_batch_data_loader,
    build_detection_test_loader,
    build_detection_train_loader,
    get_detection_dataset_dicts,
    print_instances_class_histogram,
)
from detectron2.data.samplers import InferenceSampler, TrainingSampler


def image(image_id, *categories, width=2, height=1, crowd=0):
    annotations = [{"category_id": c, "iscrowd": crowd} for c in categories]
    return {
        "image_id": image_id,
        "width": width,
        "height": height,
        "annotations": annotations,
    }


@pytest.fixture
def registered():
    names = []

    def register(images, classes=("a", "b")):
        name = f"build_test_{len(names)}"
        names.append(name)
        DatasetCatalog.register(name, lambda: images)
        MetadataCatalog.get(name).thing_classes = list(classes)
        return name

    yield register
    for name in names:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


def keep(sample):
    return sample


def ids(batches):
    return [[sample["image_id"] for sample in batch] for batch in batches]


def test_images_without_objects_are_filtered_on_request(registered):
    name = registered([image(1, 0), image(2), image(3, 1, crowd=1)])
    assert [i["image_id"] for i in get_detection_dataset_dicts(name)] == [1]
    everything = get_detection_dataset_dicts([name], filter_empty=False)
    assert [i["image_id"] for i in everything] == [1, 2, 3]


def test_datasets_are_concatenated(registered):
    names = [registered([image(1, 0)]), registered([image(2, 1)])]
    assert [i["image_id"] for i in get_detection_dataset_dicts(names)] == [1, 2]


def test_concatenated_datasets_must_have_the_same_classes(registered):
    names = [registered([image(1, 0)]), registered([image(2, 1)], classes=("a", "c"))]
    with pytest.raises(ValueError, match="thing_classes"):
        get_detection_dataset_dicts(names)
    assert len(get_detection_dataset_dicts(names, check_consistency=False)) == 2


def test_an_empty_dataset_is_refused(registered):
    with pytest.raises(AssertionError, match="empty"):
        get_detection_dataset_dicts(registered([]))


def test_a_category_beyond_the_classes_is_refused():
    with pytest.raises(AssertionError, match="category_id=5"):
        print_instances_class_histogram([image(1, 5)], ["a", "b"])


def test_training_batches_never_end_and_never_shrink():
    images = [image(i, 0) for i in range(3)]
    loader = build_detection_train_loader(
        images,
        mapper=keep,
        sampler=TrainingSampler(3, shuffle=False),
        total_batch_size=2,
        aspect_ratio_grouping=False,
    )
    assert ids(islice(loader, 4)) == [[0, 1], [2, 0], [1, 2], [0, 1]]


def test_training_batches_are_grouped_by_aspect():
    images = [image(0), image(1, width=1, height=2), image(2), image(3, width=1, height=2)]
    loader = build_detection_train_loader(
        images, mapper=keep, sampler=TrainingSampler(4, shuffle=False), total_batch_size=2
    )
    assert ids(islice(loader, 4)) == [[0, 2], [1, 3], [0, 2], [1, 3]]


def test_a_test_loader_reads_everything_once():
    images = [image(i) for i in range(5)]
    assert ids(build_detection_test_loader(images, mapper=keep)) == [[0], [1], [2], [3], [4]]
    batches = build_detection_test_loader(images, mapper=keep, batch_size=2)
    assert ids(batches) == [[0, 1], [2, 3], [4]]
    assert len(batches) == 3


@pytest.mark.parametrize("workers", [0, 2])
def test_workers_shard_the_samples(workers):
    loader = build_batch_data_loader(
        list(range(12)), InferenceSampler(12), 2, num_workers=workers, drop_last=False
    )
    assert sorted(number for batch in loader for number in batch) == list(range(12))


def test_the_collate_function_makes_the_batches():
    loader = build_batch_data_loader([1, 2, 3, 4], InferenceSampler(4), 2, collate_fn=sum)
    assert list(loader) == [3, 7]


def test_total_and_single_gpu_batch_size_exclude_each_other():
    with pytest.raises(ValueError, match="mutually"):
        build_batch_data_loader([1], InferenceSampler(1), 1, single_gpu_batch_size=1)


def test_loaders_are_built_from_a_config(registered):
    cfg = get_cfg()
    name = registered([image(1, 0), image(2), image(3, 1)])
    cfg.DATASETS.TRAIN = (name,)
    cfg.DATALOADER.NUM_WORKERS = 0
    cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS = True
    cfg.SOLVER.IMS_PER_BATCH = 2
    batches = list(islice(build_detection_train_loader(cfg, mapper=keep), 2))
    assert [sorted(batch) for batch in ids(batches)] == [[1, 3], [1, 3]]
    found = build_detection_test_loader(cfg, name, mapper=keep)
    assert ids(found) == [[1], [2], [3]]


@pytest.mark.parametrize("sampler", ["RepeatFactorTrainingSampler", "RandomSubsetTrainingSampler"])
def test_the_config_names_the_sampler(registered, sampler):
    cfg = get_cfg()
    cfg.DATASETS.TRAIN = (registered([image(i, 0) for i in range(4)]),)
    cfg.DATALOADER.NUM_WORKERS = 0
    cfg.DATALOADER.SAMPLER_TRAIN = sampler
    cfg.DATALOADER.REPEAT_THRESHOLD = 0.5
    cfg.DATALOADER.RANDOM_SUBSET_RATIO = 0.5
    cfg.SOLVER.IMS_PER_BATCH = 2
    seen = {
        i
        for batch in islice(build_detection_train_loader(cfg, mapper=keep), 6)
        for i in (sample["image_id"] for sample in batch)
    }
    assert len(seen) == (2 if "Subset" in sampler else 4)


def test_an_unknown_sampler_is_named(registered):
    cfg = get_cfg()
    cfg.DATASETS.TRAIN = (registered([image(1, 0)]),)
    cfg.DATALOADER.SAMPLER_TRAIN = "NoSuchSampler"
    with pytest.raises(ValueError, match="NoSuchSampler"):
        build_detection_train_loader(cfg, mapper=keep)
