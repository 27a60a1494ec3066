import numpy as np
import pytest
import torch
from PIL import Image

from detectron2.data import MetadataCatalog
from detectron2.structures import Boxes, BoxMode, Instances
from detectron2.utils.colormap import colormap, random_color, random_colors
from detectron2.utils.visualizer import ColorMode, GenericMask, VisImage, Visualizer

H, W = 40, 60


@pytest.fixture
def image():
    return np.full((H, W, 3), 128, dtype=np.uint8)


def predictions():
    found = Instances((H, W))
    found.pred_boxes = Boxes(torch.tensor([[5.0, 5, 30, 30], [35, 10, 55, 35]]))
    found.scores = torch.tensor([0.9, 0.5])
    found.pred_classes = torch.tensor([0, 2])
    found.pred_masks = torch.zeros(2, H, W, dtype=torch.bool)
    found.pred_masks[0, 10:25, 10:25] = True
    found.pred_masks[1, 15:30, 40:50] = True
    return found


@pytest.mark.parametrize("scale", [1.0, 1.5, 2.0])
def test_an_image_without_drawings_is_returned_at_the_scaled_size(image, scale):
    found = Visualizer(image, scale=scale).get_output().get_image()
    assert found.shape == (int(H * scale), int(W * scale), 3)
    assert found.dtype == np.uint8
    assert (found == 128).all()


@pytest.mark.parametrize("mode", list(ColorMode))
def test_detections_are_drawn_in_every_mode(image, mode):
    visualizer = Visualizer(image, MetadataCatalog.get("coco_2017_val"), instance_mode=mode)
    found = visualizer.draw_instance_predictions(predictions()).get_image()
    assert (found[10:25, 10:25] != 128).any()
    assert (found[:3, :] == 128).all()


def test_drawing_no_detections_does_not_change_the_image(image):
    found = Visualizer(image).draw_instance_predictions(predictions()[:0]).get_image()
    assert (found == 128).all()


def test_annotations_of_a_dataset_are_drawn(image):
    box = {"bbox": [5, 5, 20, 20], "bbox_mode": BoxMode.XYWH_ABS, "category_id": 1}
    polygon = [[5, 5, 25, 5, 25, 25, 5, 25]]
    sample = {"annotations": [{**box, "segmentation": polygon, "iscrowd": 1}]}
    found = Visualizer(image).draw_dataset_dict(sample).get_image()
    assert (found[10:20, 15:24] != 128).any(axis=-1).all()


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_mask_is_drawn_beside_an_object_without_one(image, order):
    box = {"bbox": [40, 5, 15, 15], "bbox_mode": BoxMode.XYWH_ABS, "category_id": 0}
    mask = {**box, "bbox": [5, 5, 20, 20], "segmentation": [[5, 5, 25, 5, 25, 25, 5, 25]]}
    mask["keypoints"] = [15, 15, 2]
    objects = [(mask, box)[n] for n in order]
    found = Visualizer(image).draw_dataset_dict({"annotations": objects}).get_image()
    assert (found[10:20, 16:24] != 128).any(axis=-1).all()
    assert (found[4:7, 41:50] != 128).any()


def test_a_box_has_its_outline_in_its_colour(image):
    visualizer = Visualizer(image)
    visualizer.draw_box((10, 10, 50, 30), alpha=1.0, edge_color=(1.0, 0.0, 0.0))
    found = visualizer.get_output().get_image()
    assert found[10, 30, 0] > 200 > 100 > found[10, 30, 1]
    assert (found[18:22, 20:40] == 128).all()


def test_a_mask_with_a_hole_is_coloured_around_it(image):
    mask = np.zeros((H, W), dtype=np.uint8)
    mask[5:35, 5:55] = 1
    mask[15:25, 20:40] = 0
    visualizer = Visualizer(image)
    visualizer.draw_binary_mask(mask, color="r", alpha=1.0)
    found = visualizer.get_output().get_image()
    assert found[8, 8].tolist() == [255, 0, 0]
    assert found[20, 30].tolist() == [128, 128, 128]


@pytest.mark.parametrize(
    "draw",
    [
        lambda v: v.draw_text("käse 90%", (20, 10)),
        lambda v: v.draw_circle((20, 10), color="b"),
        lambda v: v.draw_line([5, 50], [5, 30], color="g"),
        lambda v: v.draw_polygon(np.array([[5, 5], [40, 5], [40, 30]]), color="r"),
        lambda v: v.draw_soft_mask(np.full((H, W), 0.7), color="r"),
        lambda v: v.draw_rotated_box_with_label((30, 20, 20, 10, 30), label="a"),
        lambda v: v.overlay_instances(boxes=np.array([[30, 20, 20, 10, 30.0]]), labels=["a"]),
        lambda v: v.overlay_instances(keypoints=np.array([[[5, 5, 1], [50, 30, 0.9]]])),
        lambda v: v.draw_sem_seg(np.eye(2, dtype=int).repeat(H // 2, 0).repeat(W // 2, 1)),
    ],
)
def test_a_primitive_changes_the_image_and_returns_the_drawing(image, draw):
    meta = MetadataCatalog.get("visualizer_test").set(stuff_classes=["a", "b"])
    visualizer = Visualizer(image, meta)
    drawing = draw(visualizer)
    assert isinstance(drawing, VisImage)
    assert (drawing.get_image() != 128).any()


def test_panoptic_segments_are_drawn(image):
    meta = MetadataCatalog.get("visualizer_test_panoptic")
    meta.set(thing_classes=["t"], stuff_classes=["s", "u"], thing_colors=[[255, 0, 0]])
    segments = torch.ones(H, W, dtype=torch.int64)
    segments[10:30, 10:30] = 2
    info = [
        {"id": 1, "category_id": 1, "isthing": False},
        {"id": 2, "category_id": 0, "isthing": True, "score": 0.5},
    ]
    found = Visualizer(image, meta).draw_panoptic_seg(segments, info).get_image()
    assert (found != 128).any(axis=-1).mean() > 0.9


def test_a_saved_drawing_has_its_size(image, tmp_path):
    Visualizer(image, scale=2).get_output().save(str(tmp_path / "a b.png"))
    assert Image.open(tmp_path / "a b.png").size == (2 * W, 2 * H)


def test_mask_representations_convert_to_each_other():
    mask = np.zeros((H, W), dtype=np.uint8)
    mask[5:15, 10:30] = 1
    from_array = GenericMask(mask, H, W)
    from_polygon = GenericMask([[10, 5, 30, 5, 30, 15, 10, 15]], H, W)
    np.testing.assert_array_equal(from_polygon.mask, mask)
    assert from_array.area() == from_polygon.area() == 200
    assert from_polygon.bbox().tolist() == [10, 5, 30, 15]
    assert len(from_array.polygons) == 1
    assert not from_array.has_holes


def test_colours_are_rgb_or_bgr_up_to_1_or_255():
    colors = colormap(rgb=True)
    assert colors.shape == (74, 3)
    np.testing.assert_array_equal(colormap(), colors[:, ::-1])
    np.testing.assert_allclose(colormap(rgb=True, maximum=1) * 255, colors, rtol=1e-6)
    assert random_color().max() <= 255
    assert len({tuple(color) for color in random_colors(10)}) > 8
