"""Run a trained model on single images."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

import d2ext.data
import d2ext.modeling  # noqa: F401  (registers)
from d2ext.checkpoint import load_for_evaluation, read_metadata
from d2ext.config.load import num_classes_keys
from d2ext.data.augmentation.resize import resize_to
from d2ext.data.image_reading import from_rgb
from d2ext.engine.auto import inherit_auto
from d2ext.engine.devices import choose_device
from d2ext.modeling.deploy import fuse_for_inference
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.data import transforms as T
from detectron2.modeling import build_model


class Predictor:
    """A trained model for single images: Detectron2's `DefaultPredictor` for RGB and d2ext's files.

    Number and names of the classes are stored with the weights; if they are not, those of the
    config's data sets count; if these are unknown, the classes have no names.

    Args:
        cfg: from `load_config`; `auto` values are taken from the weights. Changed in place.
    Attributes:
        names: of the classes, in the order of their indices; may be empty.
    Raises:
        WeightsError: MODEL.WEIGHTS is empty, missing, unreadable or of another model.
    """

    def __init__(self, cfg: CfgNode) -> None:
        self.names = _resolve_classes(cfg)
        cfg.MODEL.DEVICE, note = choose_device(cfg.MODEL.DEVICE)
        if note:
            print(note)
        self.model = build_model(cfg).eval()
        load_for_evaluation(self.model, cfg.MODEL.WEIGHTS)
        fuse_for_inference(self.model)  # after loading: it changes the parameters' names
        self.format = cfg.INPUT.FORMAT
        shortest = cfg.INPUT.MIN_SIZE_TEST
        by_edge = T.ResizeShortestEdge([shortest, shortest], cfg.INPUT.MAX_SIZE_TEST)
        self.resize = resize_to(cfg) or by_edge

    @torch.no_grad()
    def __call__(self, image: np.ndarray) -> dict[str, Any]:
        """Return the model's output for an (H, W, 3) RGB uint8 image, in pixels of the image.

        Returns:
            What the meta-architecture returns per image, e.g. {"instances": Instances}, on the
            model's device.
        """
        height, width = image.shape[:2]
        pixels = np.ascontiguousarray(from_rgb(image, self.format))
        pixels = self.resize.get_transform(pixels).apply_image(pixels)
        # torch rejects the negative strides that flipped or channel-reversed arrays have.
        tensor = torch.as_tensor(np.ascontiguousarray(pixels)).permute(2, 0, 1)
        (output,) = self.model([{"image": tensor, "height": height, "width": width}])
        return output


def _resolve_classes(cfg: CfgNode) -> list[str]:
    """Resolve `auto` values and class counts in place from the weights; return the class names."""
    metadata = read_metadata(cfg.MODEL.WEIGHTS) if cfg.MODEL.WEIGHTS else {}
    if "config" in metadata:
        inherit_auto(cfg, metadata["config"])
    names = metadata.get("thing_classes") or _names_of_data(cfg)
    for key in num_classes_keys(cfg):
        if names and key in cfg.AUTO:
            cfg.merge_from_list([key, len(names)])
    cfg.AUTO = []
    return list(names)


def _names_of_data(cfg: CfgNode) -> Sequence[str]:
    """Return the classes of the first data set whose metadata name them without reading it."""
    datasets = (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST)
    known = (MetadataCatalog.get(name).get("thing_classes", None) for name in datasets)
    return next(filter(None, known), ())
