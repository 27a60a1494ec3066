"""Masks of queries become panoptic segments."""

import numpy as np
import pytest
import torch
from PIL import Image

from d2ext.errors import ConfigError
from d2ext.modeling.required_annotations import required_annotations
from d2ext.projects.detr.coco_classes import IDS, STUFF_IDS, select_coco_rows
from d2ext.projects.detr.modeling.panoptic import FoundMasks, PanopticMerger
from detectron2.data.datasets.builtin_meta import COCO_CATEGORIES
from detectron2.structures import Instances

SIZE = (6, 12)
# Classes 0 and 2 are things, class 1 is stuff, class 3 is "no object".
THINGS = frozenset({0, 2})
MERGE = PanopticMerger(THINGS, object_thresh=0.85, no_object=True)
PANOPTIC = [
    *("MODEL.DETR.PANOPTIC.ENABLED", "True"),
    *("MODEL.DETR.PANOPTIC.THING_IDS", "[0, 2]"),
    *("MODEL.DETR.PANOPTIC.OBJECT_THRESH", "0.0"),
    *("MODEL.SEM_SEG_HEAD.NUM_CLASSES", "3"),
]


def found(labels: list[int], columns: list[tuple[int, int]], scores: float = 0.99) -> FoundMasks:
    """Return queries of the given classes, each sure of the columns from start to end."""
    logits = torch.full((len(labels), 4), (1 - scores) / 3).log()
    logits[range(len(labels)), labels] = torch.tensor(scores).log()
    masks = torch.full((len(labels), *SIZE), -5.0)
    for mask, (start, end) in zip(masks, columns, strict=True):
        mask[:, start:end] = 5.0
    return FoundMasks(Instances(SIZE), logits, masks, SIZE)


def test_each_pixel_goes_to_the_query_that_claims_it_most():
    first = found([0, 1], [(0, 5), (4, 12)])
    first.masks[1, :, 4] = 6.0
    ids, segments = MERGE(first, SIZE)
    assert ids.dtype == torch.int32
    assert ids[0].tolist() == [1] * 4 + [2] * 8
    assert segments == [
        {"id": 1, "category_id": 0, "isthing": True},
        {"id": 2, "category_id": 1, "isthing": False},
    ]


def test_queries_without_an_object_or_a_sure_class_are_left_out():
    _, segments = MERGE(found([3, 0, 2], [(0, 4), (4, 8), (8, 12)]), SIZE)
    assert [segment["category_id"] for segment in segments] == [0, 2]
    ids, segments = MERGE(found([0, 2], [(0, 6), (6, 12)], scores=0.8), SIZE)
    assert (segments, ids.any().item()) == ([], False)


def test_stuff_of_a_class_is_one_segment_and_things_are_kept_apart():
    ids, segments = MERGE(found([1, 2, 1, 2], [(0, 3), (3, 6), (6, 9), (9, 12)]), SIZE)
    assert [segment["category_id"] for segment in segments] == [1, 2, 2]
    assert ids.unique().tolist() == [1, 2, 3]


def test_segments_of_less_than_five_pixels_leave_their_pixels_to_the_others():
    tiny = found([0, 2], [(0, 12), (0, 12)])
    tiny.masks[1] = -9.0
    tiny.masks[1, 0, :4] = 9.0
    ids, segments = MERGE(tiny, SIZE)
    assert [segment["category_id"] for segment in segments] == [0]
    assert (ids == 1).all()
    tiny.masks[1, 0, :5] = 9.0
    assert len(MERGE(tiny, SIZE)[1]) == 2


def test_padding_is_cut_off_before_the_masks_are_resized():
    padded = found([0, 2], [(0, 3), (3, 12)])
    inner = FoundMasks(Instances((6, 6)), padded.logits, padded.masks, SIZE)
    ids, _ = MERGE(inner, (6, 12))
    assert ids[0].tolist() == [1] * 6 + [2] * 6


@pytest.mark.parametrize("size", [(90, 140), (201, 262), (100, 130), (37, 999)])
def test_maps_are_resized_as_pillow_does_it(size):
    labels = [0] * 13
    wide = found(labels, [(0, 0)] * 13)
    masks = torch.randn(13, 100, 130, generator=torch.Generator().manual_seed(0))
    own = FoundMasks(Instances((100, 130)), wide.logits, masks, (100, 130))
    ids, segments = MERGE(own, size)
    assert len(segments) == 13
    image = Image.fromarray(masks.argmax(0).numpy().astype(np.uint8))
    expected = np.array(image.resize(size[::-1], Image.Resampling.NEAREST)) + 1
    np.testing.assert_array_equal(ids.numpy(), expected)


def test_instances_are_things_counted_alone():
    instances = Instances(SIZE, pred_classes=torch.tensor([2, 1, 0]), scores=torch.rand(3))
    selected = MERGE.select_things(instances)
    assert selected.pred_classes.tolist() == [1, 0]
    assert torch.equal(selected.scores, instances.scores[[0, 2]])


@pytest.mark.parametrize("variant", ["detr_masks", "dab"])
def test_a_batch_gives_the_segments_of_each_image(build, some_image, variant):
    model = build(variant, "MODEL.MASK_ON", "True", *PANOPTIC).eval()
    with torch.no_grad():
        # No query may win all: the mask head starts with hardly any contrast.
        model.mask_head.predictor.weight.mul_(100)
        batch = [some_image(64, 96), some_image(96, 64, seed=1)]
        together, alone = model(batch), model(batch[1:])
    (ids, segments), (own_ids, own_segments) = (
        outputs[-1]["panoptic_seg"] for outputs in (together, alone)
    )
    assert ids.shape == (96, 64)
    assert segments == own_segments
    assert (ids != own_ids).float().mean() < 0.01
    assert set(together[1]["instances"].pred_classes.tolist()) <= {0, 1}
    assert together[1]["instances"].pred_masks.shape[1:] == (96, 64)


def test_a_panoptic_model_without_a_mask_head_gives_boxes_of_things(build, some_image):
    output = build("detr", *PANOPTIC).eval()([some_image(64, 96)])[0]
    assert output.keys() == {"instances"}
    assert set(output["instances"].pred_classes.tolist()) <= {0, 1}


def test_panoptic_models_learn_from_panoptic_masks(config):
    assert required_annotations(config("detr", *PANOPTIC)) == {
        "panoptic masks": "MODEL.DETR.PANOPTIC.ENABLED True"
    }


def test_models_without_a_mask_head_are_refused(build):
    options = [*PANOPTIC, "MODEL.META_ARCHITECTURE", "DINO"]
    with pytest.raises(ConfigError, match=r"META_ARCHITECTURE DINO has no mask head"):
        build("detr", *options)


def test_rows_of_cocos_panoptic_classes_are_selected():
    assert [c["id"] for c in COCO_CATEGORIES if c["isthing"]] == IDS
    assert [c["id"] for c in COCO_CATEGORIES if not c["isthing"]] == STUFF_IDS
    rows = torch.arange(251.0)
    selected = select_coco_rows("class_embed.bias", rows, (134,))
    assert selected.tolist() == [*IDS, *STUFF_IDS, 250]


def test_every_detection_has_a_mask(build, some_image):
    model = build("detr_masks").eval()
    with torch.no_grad():
        output = model([some_image(64, 96)])[0]["instances"]
    assert len(output.pred_masks) == len(output)
    assert not output.has("query")
