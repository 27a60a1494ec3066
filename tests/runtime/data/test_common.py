import pickle

import pytest
from torch.utils.data import IterableDataset

from detectron2.data import DatasetFromList, MapDataset, ToIterableDataset
from detectron2.data.common import AspectRatioGroupedDataset
from detectron2.data.samplers import InferenceSampler


class Numbers(IterableDataset):
    def __iter__(self):
        yield from range(6)


@pytest.mark.parametrize("serialize", [True, False])
def test_changing_an_element_does_not_change_the_list(serialize):
    dataset = DatasetFromList([{"a": [1]}, {"b": 2}], serialize=serialize)
    dataset[0]["a"].append(5)
    assert dataset[0] == {"a": [1]}
    assert [dataset[i] for i in range(len(dataset))] == [{"a": [1]}, {"b": 2}]


def test_an_empty_list_is_a_dataset_of_length_zero():
    assert len(DatasetFromList([], serialize=False)) == 0


def test_an_iterable_dataset_skips_elements_mapped_to_none():
    mapped = MapDataset(Numbers(), lambda x: x * 10 if x % 2 else None)
    assert list(mapped) == [10, 30, 50]


def test_a_map_style_dataset_replaces_elements_mapped_to_none():
    mapped = MapDataset([0, 1, 2, 3], lambda x: x if x == 2 else None)
    assert [mapped[i] for i in range(4)] == [2, 2, 2, 2]


def test_a_mapped_dataset_with_a_lambda_can_be_pickled():
    mapped = pickle.loads(pickle.dumps(MapDataset([1, 2], lambda x: x + 1)))
    assert [mapped[0], mapped[1]] == [2, 3]


def test_the_sampler_defines_the_order():
    dataset = ToIterableDataset(DatasetFromList([5, 6, 7]), InferenceSampler(3))
    assert list(dataset) == [5, 6, 7]
    assert len(dataset) == 3


def test_batches_are_all_wide_or_all_tall():
    sizes = [(2, 1), (1, 2), (3, 1), (1, 1), (4, 1)]
    images = [{"width": w, "height": h} for w, h in sizes]
    batches = list(AspectRatioGroupedDataset(images, 2))
    found = [[(image["width"], image["height"]) for image in batch] for batch in batches]
    assert found == [[(2, 1), (3, 1)], [(1, 2), (1, 1)]]
