import numpy as np
import pycocotools.mask as mask_util
import pytest
import torch
from PIL import Image

from detectron2.data import detection_utils as utils
from detectron2.data import transforms as T
from detectron2.structures import BitMasks, Boxes, BoxMode, Instances

# Where the corners of an upright image 0 1 / 2 3 lie in a file of each EXIF orientation.
EXIF = {
    1: [[0, 1], [2, 3]],
    2: [[1, 0], [3, 2]],
    3: [[3, 2], [1, 0]],
    4: [[2, 3], [0, 1]],
    5: [[0, 2], [1, 3]],
    6: [[1, 3], [0, 2]],
    7: [[3, 1], [2, 0]],
    8: [[2, 0], [3, 1]],
}


@pytest.mark.parametrize(("orientation", "stored"), EXIF.items())
def test_images_are_rotated_by_their_exif_orientation(tmp_path, orientation, stored):
    path = tmp_path / "bild ü 1.png"
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.array(stored, dtype=np.uint8)).save(path, exif=exif)
    found = utils.read_image(str(path), "L")
    np.testing.assert_array_equal(found[:, :, 0], [[0, 1], [2, 3]])


@pytest.mark.parametrize(
    ("format", "pixel"),
    [("RGB", [255, 128, 0]), ("BGR", [0, 128, 255]), ("L", [151]), (None, [255, 128, 0])],
)
def test_the_format_defines_the_channels_and_their_order(tmp_path, format, pixel):
    Image.new("RGB", (3, 2), (255, 128, 0)).save(tmp_path / "a.png")
    found = utils.read_image(str(tmp_path / "a.png"), format)
    assert found.shape == (2, 3, len(pixel))
    assert found[0, 0].tolist() == pixel


@pytest.fixture
def photo():
    """Return a Pillow image with edges and noise in all channels, odd sides."""
    pixels = np.random.default_rng(0).integers(0, 256, (45, 67, 3), dtype=np.uint8)
    pixels[10:30, 20:50] = [250, 128, 3]
    return Image.fromarray(pixels)


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("options", [{"quality": 95, "subsampling": 0}, {"progressive": True}])
@pytest.mark.parametrize("format", ["BGR", "RGB"])
def test_jpegs_are_decoded_to_pillows_pixels(tmp_path, photo, mode, options, format):
    photo.convert(mode).save(tmp_path / "a.jpg", **options)
    expected = np.array(Image.open(tmp_path / "a.jpg").convert("RGB"))
    found = utils.read_image(str(tmp_path / "a.jpg"), format)
    np.testing.assert_array_equal(found, expected[:, :, ::-1] if format == "BGR" else expected)


def test_a_truncated_jpeg_is_an_error(tmp_path, photo):
    photo.save(tmp_path / "a.jpg")
    content = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "a.jpg").write_bytes(content[: len(content) // 2])
    with pytest.raises(OSError, match="truncated"):
        utils.read_image(str(tmp_path / "a.jpg"), "BGR")


def test_a_file_that_is_not_an_image_is_an_error(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"nothing" * 20)
    with pytest.raises(OSError, match="cannot identify"):
        utils.read_image(str(tmp_path / "a.jpg"), "BGR")


@pytest.mark.parametrize("format", ["RGB", "BGR", "YUV-BT.601"])
def test_images_of_every_format_convert_to_rgb(tmp_path, format):
    Image.new("RGB", (3, 2), (250, 128, 10)).save(tmp_path / "a.png")
    pixels = utils.read_image(str(tmp_path / "a.png"), format)
    shown = utils.convert_image_to_rgb(torch.as_tensor(pixels.copy()), format)
    np.testing.assert_allclose(shown[0, 0], [250, 128, 10], atol=0.1)


def test_an_image_of_another_size_than_annotated_is_refused():
    image = np.zeros((20, 30, 3), dtype=np.uint8)
    with pytest.raises(utils.SizeMismatchError, match=r"a\.jpg"):
        utils.check_image_size({"file_name": "a.jpg", "width": 20, "height": 30}, image)
    sample = {}
    utils.check_image_size(sample, image)
    assert sample == {"width": 30, "height": 20}


def test_boxes_are_transformed_and_clipped():
    found = utils.transform_instance_annotations(
        {"bbox": [-5, 10, 50, 20], "bbox_mode": BoxMode.XYWH_ABS},
        [T.ResizeTransform(40, 40, 20, 20)],
        (20, 20),
    )
    np.testing.assert_allclose(found["bbox"], [0, 5, 20, 15])
    assert found["bbox_mode"] == BoxMode.XYXY_ABS


def test_an_rle_becomes_a_transformed_mask():
    mask = np.zeros((4, 6), dtype=np.uint8)
    mask[1, 1] = 1
    annotation = {
        "bbox": [1, 1, 1, 1],
        "bbox_mode": BoxMode.XYWH_ABS,
        "segmentation": mask_util.encode(np.asfortranarray(mask)),
    }
    found = utils.transform_instance_annotations(annotation, [T.HFlipTransform(6)], (4, 6))
    np.testing.assert_array_equal(found["segmentation"], mask[:, ::-1])


def test_polygons_are_transformed():
    annotation = {
        "bbox": [1, 1, 1, 1],
        "bbox_mode": BoxMode.XYWH_ABS,
        "segmentation": [[1, 1, 3, 1, 3, 2]],
    }
    found = utils.transform_instance_annotations(annotation, [T.HFlipTransform(6)], (4, 6))
    np.testing.assert_allclose(found["segmentation"][0], [5, 1, 3, 1, 3, 2])


def test_flipped_keypoints_swap_sides_and_those_outside_are_unlabelled():
    keypoints = [1, 1, 2, 2, 1, 2, 9, 9, 2]
    annotation = {"bbox": [0, 0, 1, 1], "bbox_mode": BoxMode.XYWH_ABS, "keypoints": keypoints}
    found = utils.transform_instance_annotations(
        annotation, T.TransformList([T.HFlipTransform(6)]), (4, 6), keypoint_hflip_indices=[1, 0, 2]
    )
    np.testing.assert_allclose(found["keypoints"], [[4, 1, 2], [5, 1, 2], [0, 0, 0]])


def test_flipping_keypoints_without_flip_indices_is_an_error():
    annotation = {"bbox": [0, 0, 1, 1], "bbox_mode": BoxMode.XYWH_ABS, "keypoints": [1, 1, 2]}
    with pytest.raises(ValueError, match="flip"):
        utils.transform_instance_annotations(annotation, [T.HFlipTransform(6)], (4, 6))


def test_flip_indices_of_a_person_swap_left_and_right():
    order = utils.create_keypoint_hflip_indices("keypoints_coco_2017_train")
    assert list(order) == [0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15]


def annotation_with(segmentation):
    return {
        "bbox": [1, 1, 3, 3],
        "bbox_mode": BoxMode.XYXY_ABS,
        "category_id": 2,
        "segmentation": segmentation,
    }


def test_every_segmentation_format_converts_to_bit_masks():
    mask = np.zeros((5, 6), dtype=np.uint8)
    mask[1:3, 1:3] = 1
    kinds = [mask, mask_util.encode(np.asfortranarray(mask)), [[1, 1, 3, 1, 3, 3, 1, 3]]]
    found = utils.annotations_to_instances(
        [annotation_with(kind) for kind in kinds], (5, 6), mask_format="bitmask"
    )
    expected = torch.from_numpy(mask).bool().expand(3, 5, 6)
    assert torch.equal(found.gt_masks.tensor.bool(), expected)
    assert found.gt_classes.tolist() == [2, 2, 2]


def test_masks_with_polygon_format_raise_an_error_with_the_remedy():
    with pytest.raises(ValueError, match="mask_format"):
        utils.annotations_to_instances([annotation_with(np.ones((5, 6)))], (5, 6))


def test_no_annotations_give_instances_of_length_zero():
    found = utils.annotations_to_instances([], (5, 6))
    assert len(found) == 0
    assert found.gt_boxes.tensor.shape == (0, 4)
    assert found.gt_classes.dtype == torch.int64


def test_empty_instances_are_filtered_out():
    instances = Instances((5, 6))
    instances.gt_boxes = Boxes(torch.tensor([[0.0, 0, 2, 2], [1, 1, 1, 3], [0, 0, 3, 3]]))
    masks = torch.ones(3, 5, 6, dtype=torch.bool)
    masks[2] = False
    instances.gt_masks = BitMasks(masks)
    kept, mask = utils.filter_empty_instances(instances, return_mask=True)
    assert mask.tolist() == [True, False, False]
    assert len(kept) == 1
    assert len(utils.filter_empty_instances(instances, by_mask=False)) == 2


def test_a_crop_for_an_instance_contains_its_centre():
    instance = {"bbox": [50, 30, 10, 10], "bbox_mode": BoxMode.XYWH_ABS}
    for _ in range(20):
        crop = utils.gen_crop_transform_with_instance((20, 30), (80, 100), instance)
        assert crop.x0 <= 55 <= crop.x0 + crop.w
        assert crop.y0 <= 35 <= crop.y0 + crop.h


def test_proposals_are_transformed_filtered_and_limited():
    sample = {
        "proposal_boxes": np.array([[0.0, 0, 4, 4], [1, 1, 1, 3], [2, 2, 5, 4], [0, 0, 9, 9]]),
        "proposal_bbox_mode": BoxMode.XYXY_ABS,
        "proposal_objectness_logits": np.array([4.0, 3.0, 2.0, 1.0]),
    }
    utils.transform_proposals(
        sample, (5, 6), T.TransformList([T.HFlipTransform(6)]), proposal_topk=2
    )
    found = sample.pop("proposals")
    assert found.proposal_boxes.tensor.tolist() == [[2, 0, 6, 4], [1, 2, 4, 4]]
    assert found.objectness_logits.tolist() == [4, 2]
    assert not sample
