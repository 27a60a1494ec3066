"""Pipelines of albumentations; skipped where it is not installed."""

import numpy as np
import pytest

from d2ext.config import get_cfg
from d2ext.data.augmentation.annotated_image import AnnotatedImage, AnnotationTransform
from d2ext.data.augmentation.single_image import build_augmentations
from d2ext.errors import ConfigError
from detectron2.data import transforms as T
from detectron2.structures import BoxMode

H, W = 80, 120


@pytest.fixture
def albumentations():
    return pytest.importorskip("albumentations")


def augmentation(albumentations, path, *steps):
    albumentations.save(albumentations.Compose(list(steps)), path, data_format="yaml")
    cfg = get_cfg()
    cfg.INPUT.ALBUMENTATIONS = str(path)
    return T.AugmentationList(build_augmentations(cfg))


def picture():
    image = np.zeros((H, W, 3), np.uint8)
    image[20:60, 30:90] = 255
    corners = [30.0, 20, 90, 20, 90, 60, 30, 60]
    box = {"bbox": [30, 20, 90, 60], "bbox_mode": BoxMode.XYXY_ABS, "category_id": 0}
    mask = (image[..., 0] > 0).astype(np.uint8)
    rotated = {"bbox": [60, 40, 60, 40, 0], "bbox_mode": BoxMode.XYWHA_ABS, "category_id": 0}
    objects = [{**box, "segmentation": [corners]}, {**box, "segmentation": mask}, rotated]
    return AnnotatedImage(image, objects, mask)


STEPS = {
    "HorizontalFlip": {},
    "VerticalFlip": {},
    "Transpose": {},
    "RandomRotate90": {},
    "Affine": {"scale": 0.8, "rotate": 17, "translate_px": 4},
    "RandomCrop": {"height": 70, "width": 110},
    "RandomBrightnessContrast": {},
}


@pytest.mark.parametrize("name", STEPS)
def test_everything_annotated_follows(albumentations, tmp_path, name):
    step = getattr(albumentations, name)(p=1.0, **STEPS[name])
    pipeline = augmentation(albumentations, tmp_path / "p.yaml", step)
    np.random.seed(3)
    found, _ = AnnotationTransform(ignore_value=255).augment(picture(), pipeline)
    light = found.image[..., 0] > 100
    rows, columns = np.nonzero(light)
    centre = columns.mean() + 0.5, rows.mean() + 0.5
    by_polygon, by_mask, rotated = found.annotations
    outline = np.reshape(by_polygon["segmentation"][0], (-1, 2))
    np.testing.assert_allclose(outline.mean(0), centre, atol=0.6)
    assert (by_mask["segmentation"].astype(bool) ^ light).mean() < 0.01
    assert ((found.sem_seg == 1) ^ light).mean() < 0.01
    np.testing.assert_allclose(rotated["bbox"][:2], centre, atol=0.6)
    extent = columns.max() + 1 - columns.min(), rows.max() + 1 - rows.min()
    box = by_polygon["bbox"]
    np.testing.assert_allclose([box[2] - box[0], box[3] - box[1]], extent, atol=2.5)


def test_what_is_drawn_follows_from_the_seed(albumentations, tmp_path):
    step = albumentations.Affine(rotate=(-90, 90), p=1.0)
    pipeline = augmentation(albumentations, tmp_path / "p.yaml", step)
    images = []
    for seed in (1, 1, 2):
        np.random.seed(seed)
        images.append(AnnotationTransform().augment(picture(), pipeline)[0].image)
    assert np.array_equal(images[0], images[1])
    assert not np.array_equal(images[0], images[2])


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("p.yaml", "a: [", "is not a pipeline saved by albumentations.save"),
        ("p.json", "{}", "is not a pipeline"),
        ("p.txt", "", r"neither \.yaml nor \.json"),
        ("absent.yaml", None, "absent.yaml is not a pipeline"),
    ],
)
def test_other_files_are_refused(albumentations, tmp_path, name, text, message):
    if text is not None:
        (tmp_path / name).write_text(text)
    cfg = get_cfg()
    cfg.INPUT.ALBUMENTATIONS = str(tmp_path / name)
    with pytest.raises(ConfigError, match=message):
        build_augmentations(cfg)


def test_without_albumentations_the_message_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "albumentations", None)
    cfg = get_cfg()
    cfg.INPUT.ALBUMENTATIONS = str(tmp_path / "p.yaml")
    with pytest.raises(ConfigError, match="pip install albumentations"):
        build_augmentations(cfg)
