"""Test-time augmentation over sizes and flips."""

import numpy as np
import pytest
import torch
from PIL import Image

from detectron2.modeling import DatasetMapperTTA, GeneralizedRCNNWithTTA
from tests.helpers.runtime_rcnn import batch, tiny_config, tiny_model

CHANGES = {"TEST__AUG__MIN_SIZES": (64, 96), "TEST__AUG__MAX_SIZE": 120}


def inputs() -> list[dict]:
    sizes = [{"height": 96, "width": 128}, {"height": 64, "width": 48}]
    return [
        {"image": item["image"].byte(), **size} for item, size in zip(batch(), sizes, strict=True)
    ]


def test_every_size_is_returned_plain_and_flipped():
    versions = DatasetMapperTTA([20, 40], 50, True)(inputs()[1] | {"file_name": "a.jpg"})
    assert [tuple(v["image"].shape) for v in versions] == [(3, 27, 20)] * 2 + [(3, 50, 38)] * 2
    assert torch.equal(versions[1]["image"], versions[0]["image"].flip(2))
    assert all(v["file_name"] == "a.jpg" and v["height"] == 64 for v in versions)


def test_transforms_map_the_original_to_each_version():
    versions = DatasetMapperTTA([20], 50, True)(inputs()[1])
    ends = [
        version["transforms"].apply_coords(np.array([[48.0, 64.0]]))[0].tolist()
        for version in versions
    ]
    assert ends == [pytest.approx([20, 27]), pytest.approx([0, 27])]


def test_flips_can_be_disabled():
    assert len(DatasetMapperTTA(min_sizes=[20, 40], max_size=50, flip=False)(inputs()[0])) == 2


def test_merged_boxes_match_detectron2():
    model = GeneralizedRCNNWithTTA(tiny_config(**CHANGES), tiny_model().eval(), batch_size=2)
    with torch.no_grad():
        found = [output["instances"] for output in model(inputs())]
    assert [image.image_size for image in found] == [(96, 128), (64, 48)]
    # Resizing is exact to a level of the pixels, and networks of made-up weights are not calm.
    scores, boxes = zip(*((i.scores.sum(), i.pred_boxes.tensor.sum()) for i in found), strict=True)
    assert [s.item() for s in scores] == pytest.approx([8.99376, 9.60641], rel=1e-3)
    assert [b.item() for b in boxes] == pytest.approx([2788.67, 1785.95], rel=1e-3)


def test_masks_are_averaged_and_pasted():
    changes = {**CHANGES, "MODEL__MASK_ON": True}
    network = tiny_model(**changes).eval()
    with torch.no_grad():
        outputs = GeneralizedRCNNWithTTA(tiny_config(**changes), network)(inputs())
    assert network.roi_heads.mask_on
    masks = [output["instances"].pred_masks for output in outputs]
    assert [tuple(m.shape) for m in masks] == [(10, 96, 128), (10, 64, 48)]
    assert [m.sum().item() for m in masks] == pytest.approx([22010, 429], rel=0.02)


def test_an_image_is_read_from_its_file(tmp_path):
    pixels = inputs()[0]["image"].permute(1, 2, 0).numpy()
    Image.fromarray(np.ascontiguousarray(pixels[:, :, ::-1])).save(tmp_path / "a.png")
    model = GeneralizedRCNNWithTTA(tiny_config(**CHANGES), tiny_model().eval())
    with torch.no_grad():
        (read,), (given,) = model([{"file_name": str(tmp_path / "a.png")}]), model(inputs()[:1])
    assert torch.equal(read["instances"].scores, given["instances"].scores)


def test_keypoints_are_refused():
    changes = {"MODEL__KEYPOINT_ON": True}
    with pytest.raises((ValueError, AssertionError)):
        GeneralizedRCNNWithTTA(tiny_config(**changes), tiny_model(**changes))
