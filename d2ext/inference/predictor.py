"""Run a trained model on single images."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from d2ext.checkpoint import load_for_evaluation, read_metadata
from d2ext.config.load import num_classes_keys
from d2ext.data.augmentation.resize import ResizeShortestEdge, resize_to
from d2ext.data.image_reading import from_rgb
from d2ext.engine.auto import inherit_auto
from d2ext.engine.build import explained_build
from d2ext.engine.config_choice import NO_WEIGHTS, check_weights_name
from d2ext.engine.devices import choose_device
from d2ext.engine.finite import refuse_non_finite
from d2ext.errors import WeightsError
from d2ext.modeling import build_model
from d2ext.modeling.deploy import fuse_for_inference
from d2ext.modeling.test_time_augmentation import with_tta
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog


class Predictor:
    """A trained model for single images: Detectron2's `DefaultPredictor` for RGB and d2ext's files.

    Number and names of the classes are stored with the weights; if they are not, those of the
    config's data sets count; if these are unknown, the classes have no names.

    Args:
        cfg: from `load_config`; `auto` values are taken from the weights. Changed in place.
    Attributes:
        names: of the classes, in the order of their indices; may be empty.
        pixel_names: of the classes of pixels, where data have both; may be empty.
        device: of the model.
        model: without test-time augmentation, which predictions have if the config asks for it.
    Raises:
        WeightsError: MODEL.WEIGHTS is empty, missing, unreadable or of another model.
    """

    def __init__(self, cfg: CfgNode) -> None:
        if not cfg.MODEL.WEIGHTS:
            raise WeightsError(NO_WEIGHTS)
        check_weights_name(cfg.MODEL.WEIGHTS)
        self.names, self.pixel_names = _resolve_classes(cfg)
        cfg.MODEL.DEVICE, note = choose_device(cfg.MODEL.DEVICE)
        if note:
            print(note)
        with explained_build():
            self.model = build_model(cfg).eval()
        load_for_evaluation(self.model, cfg.MODEL.WEIGHTS)
        refuse_non_finite(self.model, cfg.MODEL.WEIGHTS)
        fuse_for_inference(self.model)  # after loading: it changes the parameters' names
        self._predicting = with_tta(cfg, self.model)
        self.format, self.device = cfg.INPUT.FORMAT, torch.device(cfg.MODEL.DEVICE)
        shortest = cfg.INPUT.MIN_SIZE_TEST
        by_edge = ResizeShortestEdge([shortest, shortest], cfg.INPUT.MAX_SIZE_TEST)
        self.resize = resize_to(cfg) or by_edge

    def __call__(self, image: np.ndarray) -> dict[str, Any]:
        """Return the model's output for an (H, W, 3) RGB uint8 image, in pixels of the image.

        Returns:
            What the meta-architecture returns per image, e.g. {"instances": Instances}, on the
            model's device.
        """
        (output,) = self.predict([(self.prepare(image), *image.shape[:2])])
        return output

    def prepare(self, image: np.ndarray) -> Tensor:
        """Resize an (H, W, 3) RGB uint8 image to the model's input, (C, h, w) uint8.

        With test-time augmentation it keeps its size, of which the views are made.
        """
        pixels = np.ascontiguousarray(from_rgb(image, self.format))
        if self._predicting is self.model:
            pixels = self.resize.get_transform(pixels).apply_image(pixels)
        # torch rejects the negative strides that flipped or channel-reversed arrays have.
        return torch.as_tensor(np.ascontiguousarray(pixels.transpose(2, 0, 1)))

    @torch.inference_mode()
    def predict(self, inputs: Sequence[tuple[Any, int, int]]) -> list[dict[str, Any]]:
        """Return the model's outputs for a batch.

        Args:
            inputs: per image what `prepare` returns, and its height and width in pixels. Inputs
                of another size than the others are padded.
        """
        batch = [{"image": x, "height": height, "width": width} for x, height, width in inputs]
        return list(self._predicting(batch))


def _resolve_classes(cfg: CfgNode) -> tuple[list[str], list[str]]:
    """Resolve `auto` values and class counts in place from the weights.

    Returns:
        The names of the classes of objects, and those of pixels.
    """
    metadata = read_metadata(cfg.MODEL.WEIGHTS) if cfg.MODEL.WEIGHTS else {}
    if "config" in metadata:
        inherit_auto(cfg, metadata["config"])
    names = metadata.get("thing_classes") or _names_of_data(cfg)
    for key in num_classes_keys(cfg):
        if names and key in cfg.AUTO:
            cfg.merge_from_list([key, len(names)])
    cfg.AUTO = []
    return list(names), list(metadata.get("stuff_classes") or ())


def _names_of_data(cfg: CfgNode) -> Sequence[str]:
    """Return the classes of the first data set whose metadata name them without reading it."""
    datasets = (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST)
    known = (MetadataCatalog.get(name).get("thing_classes", None) for name in datasets)
    return next(filter(None, known), ())
