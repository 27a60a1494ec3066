"""Parity of YOLO-FastestV2: made-up weights and images, and the published weights on photos."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import d2ext.projects.yolo_fastest as project
from d2ext.checkpoint import Checkpointer, read_checkpoint
from d2ext.checkpoint.state_dict import extract_state_dict
from d2ext.config import get_cfg
from d2ext.data.augmentation.resize import ResizeTo
from d2ext.parity import recipe
from d2ext.parity.case import Case
from d2ext.parity.readers import register_parity_reader
from d2ext.parity.settings import check_fixed, check_known
from d2ext.projects.yolo_fastest.modeling import RawLevel
from d2ext.projects.yolo_fastest.modeling.decoding import dense_boxes
from detectron2.config import CfgNode
from detectron2.data.detection_utils import read_image
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances

Outputs = Iterator[tuple[str, Tensor]]
FIRST_LEVEL = 2  # the authors' number of the finest level
SIZE = [352, 352]  # width and height
STRIDES = [16, 32]  # of the two levels
TRUTH = re.compile(r"recipe\.boxes\(seed, (\d+), (\d+), (\d+), (\d+)\)")
# Settings of a case -> keys of our config, where both hold the same.
KEYS = {
    "stem_channels": "MODEL.SHUFFLENET.STEM_CHANNELS",
    "stage_channels": "MODEL.SHUFFLENET.STAGE_CHANNELS",
    "stage_repeats": "MODEL.SHUFFLENET.STAGE_REPEATS",
    "neck_channels": "MODEL.LIGHT_NECK.CHANNELS",
    "neck_kernel": "MODEL.LIGHT_NECK.KERNEL_SIZE",
    "classes": "MODEL.YOLO_FASTEST.NUM_CLASSES",
    "anchor_match_ratio": "MODEL.YOLO_FASTEST.MATCH_RATIO",
    "cell_bias": "MODEL.YOLO_FASTEST.NEIGHBOR_REACH",
    "conf_threshold": "MODEL.YOLO_FASTEST.SCORE_THRESH_TEST",
    "nms_iou": "MODEL.YOLO_FASTEST.NMS_THRESH_TEST",
    "max_detections": "TEST.DETECTIONS_PER_IMAGE",
}
WEIGHTS = {
    "box": "BOX_WEIGHT",
    "obj": "OBJECTNESS_WEIGHT",
    "cls": "CLASS_WEIGHT",
    "obj_balance": "OBJECTNESS_BALANCE",
}
# What is read without a key of ours; of training, only the losses are compared.
READ = (
    *("in_words", "words", "anchors", "anchors_per_level", "strides", "batch_norm_eps"),
    *("batch_norm_momentum", "loss_weights", "class_names", "weights", "backbone_weights"),
    *("settings", "size", "training"),
)
LOSSES = {"loss_box": "box", "loss_obj": "obj", "loss_cls": "cls"}


class YoloCase(Case):
    """Base of both kinds of cases."""

    def cfg(self) -> CfgNode:
        """Build the config of the settings, on the CPU.

        Raises:
            DataError: a setting is unknown, or has a value without a counterpart here.
        """
        check_known("config", self.config, (*KEYS, *READ))
        check_known("config.loss_weights", self.config.get("loss_weights", {}), WEIGHTS)
        check_fixed("config.strides", self.config.get("strides", STRIDES), STRIDES)
        cfg = get_cfg()
        project.add_config(cfg)
        cfg.MODEL.DEVICE = "cpu"
        cfg.MODEL.META_ARCHITECTURE, cfg.MODEL.BACKBONE.NAME = "YoloFastest", "LightNeck"
        cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD = [0.0] * 3, [255.0] * 3
        cfg.TEST.DETECTIONS_PER_IMAGE = 300
        yolo = cfg.MODEL.YOLO_FASTEST
        yolo.CLIP_BOXES = False
        for name in KEYS.keys() & self.config.keys():
            cfg.merge_from_list([KEYS[name], self.config[name]])
        for name, value in self.config.get("loss_weights", {}).items():
            yolo[WEIGHTS[name]] = value if name == "obj_balance" else float(value)
        if "class_names" in self.config:
            yolo.NUM_CLASSES = len(self.config["class_names"])
        per_level = self.config.get("anchors_per_level", 3)
        yolo.ANCHORS = np.reshape(self.config["anchors"], (-1, per_level, 2)).tolist()
        return cfg

    def model(self) -> Any:
        """Build the model, without the weights of the case."""
        model = build_model(self.cfg()).eval()
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eps = self.config.get("batch_norm_eps", module.eps)
                module.momentum = self.config.get("batch_norm_momentum", module.momentum)
        return model

    def outputs(self) -> Outputs:
        """Yield everything that the case may store."""
        raise NotImplementedError

    def trained(self, batch: list[dict]) -> Outputs:
        """Yield losses and gradients with running and batch statistics, then the statistics."""
        model = self.model().double().train()
        parameters = self.load(model)
        for mode in ("bn_eval", "bn_train"):
            for module in model.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.train(mode == "bn_train")
            model.zero_grad()
            losses = model(batch)
            total = torch.stack(list(losses.values())).sum()
            total.backward()
            for name, loss in losses.items():
                yield f"loss.{mode}.{LOSSES[name]}", loss
            yield f"loss.{mode}.total", total
            for name, parameter in parameters.items():
                if parameter.grad is not None:
                    yield f"grad.{mode}.{name}", parameter.grad.clone()
        for name, value in parameters.items():
            yield f"after_bn_train.{name}", value


class RecipeCase(YoloCase):
    """A case of made-up weights and images."""

    def outputs(self) -> Outputs:
        facts = self.facts["input"]
        size = facts["height"], facts["width"]
        if "resize_check" in facts:
            yield from self._resized(facts["resize_check"], size)
        model = self.model()
        self.load(model)
        batch = self.batch()
        with torch.no_grad():
            images = model.preprocess(batch).tensor
            yield from features(model.backbone.bottom_up(images), "backbone.c")
            yield from _branches(model, images)
            levels = model.head(model.backbone(images))
            yield from raw_outputs(model, levels, "head.")
            yield "decoded", decoded(model, levels)
            for index, found in enumerate(model(batch)):
                yield from _detections(found["instances"], f"det{index}.")
            yield from _targets(model, levels, [item["instances"] for item in batch])
        yield from self.trained(batch)

    def batch(self) -> list[dict]:
        facts = self.facts["input"]
        height, width = facts["height"], facts["width"]
        pairs = zip(facts["seeds"], facts["ground_truth"]["counts"], strict=True)
        return [
            _item(
                recipe.image(seed, height, width),
                recipe.boxes(seed, height, width, count, self.config["classes"]),
            )
            for seed, count in pairs
        ]

    def _resized(self, facts: dict[str, int], size: tuple[int, int]) -> Outputs:
        pixels = recipe.image(facts["seed"], facts["height"], facts["width"])
        resized = torch.from_numpy(_stretched(pixels, size))
        rows, columns = self.facts["outputs"].get("resized_crop", {"shape": (12, 16)})["shape"][:2]
        yield "resized", resized
        yield "resized_crop", resized[:rows, :columns]


class PhotoCase(YoloCase):
    """A case of the published weights on photos, which are in its folder."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, files=("case.json", "golden.npz"))
        self.folder = folder

    def published(self) -> dict[str, Tensor]:
        return extract_state_dict(read_checkpoint(self.folder / self.config["weights"]))

    def outputs(self) -> Outputs:
        model = self.model()
        self.load(model)
        photos = {name: read_image(str(self.folder / name), "BGR") for name in self.facts["photos"]}
        with torch.no_grad():
            for name, photo in photos.items():
                yield from self._of_photo(model, Path(name).stem, photo)
            if "backbone_weights" in self.config:
                yield from self._of_backbone(photos)
        if "training_check" in self.facts["input"]:
            yield from self.trained(self._training_batch(photos.values()))

    def _of_photo(self, model: Any, name: str, photo: np.ndarray) -> Outputs:
        resized = _stretched(photo, self._size())
        yield f"{name}.decoded_photo", torch.from_numpy(photo.copy())
        yield f"{name}.resized", torch.from_numpy(resized)
        item = _item(resized)
        images = model.preprocess([item]).tensor
        yield from raw_outputs(model, model.head(model.backbone(images)), f"{name}.head.")
        height, width = photo.shape[:2]
        for setting in self.config["settings"]:
            model.head.postprocess.score_thresh = float(setting.removeprefix("conf"))
            here = model([item])[0]["instances"]
            prefix = f"{name}.{setting}."
            yield f"{prefix}boxes_{self._size()[1]}", here.pred_boxes.tensor
            found = model([{**item, "height": height, "width": width}])[0]["instances"]
            yield from _detections(found, prefix)

    def _of_backbone(self, photos: dict[str, np.ndarray]) -> Outputs:
        """Yield features of the ImageNet backbone alone, as training starts from it."""
        model = self.model()
        file = str(self.folder / self.config["backbone_weights"])
        Checkpointer(model).load(file, checkpointables=[])
        for name, photo in photos.items():
            images = model.preprocess([_item(_stretched(photo, self._size()))]).tensor
            prefix = f"{Path(name).stem}.imagenet_backbone.c"
            yield from features(model.backbone.bottom_up(images), prefix)

    def _training_batch(self, photos: Iterable[np.ndarray]) -> list[dict]:
        facts = self.facts["input"]["training_check"]
        numbers = TRUTH.search(facts["ground_truth"])
        height, width, count, classes = map(int, numbers.groups() if numbers else (0, 0, 0, 1))
        return [
            _item(
                _stretched(photo, self._size()), recipe.boxes(seed, height, width, count, classes)
            )
            for seed, photo in zip(facts["seeds"], photos, strict=True)
        ]

    def _size(self) -> tuple[int, int]:
        """Return (height, width) of the input."""
        width, height = self.config.get("size", SIZE)
        return height, width


def _recognises(facts: dict[str, Any]) -> bool:
    return {"anchors", "nms_iou"} <= facts.get("config", {}).keys()


def _read(folder: Path) -> YoloCase:
    made_up = (folder / "entries.json").is_file()
    return RecipeCase(folder) if made_up else PhotoCase(folder)


def outputs(case: YoloCase) -> dict[str, Tensor]:
    """Compute everything that the case may store, by its keys."""
    return dict(case.outputs())


register_parity_reader(_recognises, outputs, read=_read)


def features(levels: dict[str, Tensor], prefix: str) -> Outputs:
    """Yield the backbone's levels by the authors' numbers."""
    for number, level in enumerate(levels.values(), start=FIRST_LEVEL):
        yield f"{prefix}{number}", level


def raw_outputs(model: Any, levels: list[RawLevel], prefix: str) -> Outputs:
    """Yield the three raw outputs of every level."""
    for stride, level in zip(model.head.strides, levels, strict=True):
        yield f"{prefix}stride{stride}.reg", level.box
        yield f"{prefix}stride{stride}.obj", level.objectness
        yield f"{prefix}stride{stride}.cls", level.classes


def decoded(model: Any, levels: list[RawLevel]) -> Tensor:
    """Return (B, N, 5 + C): centre and size in pixels, objectness, class probabilities."""
    parts = []
    head = model.head
    for level, anchors, stride in zip(levels, head.anchors, head.strides, strict=True):
        boxes = dense_boxes(level, anchors, stride)  # (B, H, W, A, 4)
        objectness = level.objectness.sigmoid().permute(0, 2, 3, 1)[..., None]
        classes = level.classes.softmax(dim=1).permute(0, 2, 3, 1)[:, :, :, None]
        classes = classes.expand(-1, -1, -1, len(anchors), -1)
        parts.append(torch.cat((boxes, objectness, classes), dim=-1).flatten(1, 3))
    return torch.cat(parts, dim=1)


def _branches(model: Any, images: Tensor) -> Outputs:
    names = {"class": "cls", "box": "reg"}
    found = model.backbone(images)
    for number, level in enumerate(model.backbone.in_features, start=FIRST_LEVEL):
        for ours, theirs in names.items():
            yield f"neck.{theirs}{number}", found[f"{level}_{ours}"]


def _detections(found: Instances, prefix: str) -> Outputs:
    yield f"{prefix}boxes", found.pred_boxes.tensor
    yield f"{prefix}scores", found.scores
    yield f"{prefix}classes", found.pred_classes


def _targets(model: Any, levels: list[RawLevel], truth: list[Instances]) -> Outputs:
    """Yield the positives of the loss, sorted by image, anchor, row, column, class."""
    head = model.head
    for level, targets in enumerate(head.targets(levels, truth)):
        place = (targets.image, targets.anchor, targets.cell[:, 1], targets.cell[:, 0])
        index = torch.stack((*place, targets.classes), dim=1)
        order = np.lexsort([*targets.boxes.numpy().T[::-1], *index.numpy().T[::-1]]).copy()
        prefix = f"target.stride{head.strides[level]}."
        yield f"{prefix}index", index[order]
        yield f"{prefix}box", targets.boxes[order]
        anchors = head.anchors[level] / head.strides[level]
        yield f"{prefix}anchor", anchors[targets.anchor][order]


def _stretched(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Stretch (H, W, 3) pixels to `size`, (height, width)."""
    return ResizeTo(size[1], size[0], stretch=True).get_transform(pixels).apply_image(pixels)


def _item(pixels: np.ndarray, truth: tuple[np.ndarray, np.ndarray] | None = None) -> dict:
    """Build an input from (H, W, 3) pixels in the model's channel order, and optional boxes."""
    item: dict[str, Any] = {"image": torch.from_numpy(pixels.transpose(2, 0, 1).copy())}
    if truth is not None:
        item["instances"] = Instances(pixels.shape[:2])
        item["instances"].gt_boxes = Boxes(torch.from_numpy(truth[0]))
        item["instances"].gt_classes = torch.from_numpy(truth[1])
    return item
