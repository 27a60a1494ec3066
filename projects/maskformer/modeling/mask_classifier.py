"""The base of MaskFormer and Mask2Former: a set of masks, each with a class."""

from typing import Any, ClassVar

from torch import Tensor, nn

from d2ext.data.statistics import DatasetStats
from d2ext.errors import ConfigError
from d2ext.modeling.meta_arch import Detector
from d2ext.projects.maskformer.modeling import inference
from d2ext.projects.maskformer.modeling.criterion import MaskCriterion
from d2ext.projects.maskformer.modeling.inference import FoundMasks
from d2ext.projects.maskformer.modeling.predictions import MaskPredictions, MaskTargets
from d2ext.text import first_few
from detectron2.config import CfgNode, configurable
from detectron2.structures import ImageList

TASKS = ("semantic", "instance", "panoptic")
# What each task learns from, in the words that data sets report.
ANNOTATIONS = {"semantic": "semantic masks", "instance": "masks", "panoptic": "panoptic masks"}


class MaskClassifier(Detector):
    """Backbone, pixel decoder, and a predictor of a mask and a class per query.

    Args:
        pixel_decoder: maps a list of feature maps, finest first, to `PixelFeatures`.
        predictor: maps `PixelFeatures` to `MaskPredictions`.
        criterion: matching and losses.
        in_features: feature maps of the backbone that are used, finest first.
        size_divisibility: images are padded to multiples of it, in pixels.
        deep_supervision: losses of every decoder layer, not only of the last one.
        task: what is learnt: "semantic", "instance" or "panoptic".
        ignore_value: of semantic masks, the label of pixels without a class.
        test: settings of `MODEL.MASK_FORMER.TEST`, by their names in lower case.
        max_detections: instances per image.
        things: classes of panoptic segmentation that are things.
        options: those of `Detector`.
    """

    dataset_mapper = "maskformer"
    # Panoptic segments end at the border of their query's own mask.
    segments_inside_masks: ClassVar[bool] = False

    @configurable
    def __init__(
        self,
        *,
        pixel_decoder: nn.Module,
        predictor: nn.Module,
        criterion: MaskCriterion,
        in_features: list[str],
        size_divisibility: int,
        deep_supervision: bool,
        task: str,
        ignore_value: int,
        test: dict[str, Any],
        max_detections: int,
        things: frozenset[int],
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.pixel_decoder, self.predictor = pixel_decoder, predictor
        self.criterion, self.in_features = criterion, in_features
        self.divisor, self.deep_supervision = size_divisibility, deep_supervision
        self.task, self.ignore_value, self.test = task, ignore_value, test
        self.max_detections, self.things = max_detections, things

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        model = cfg.MODEL.MASK_FORMER
        _check_tasks(cfg)
        return {
            **super().from_config(cfg),
            "in_features": model.IN_FEATURES,
            "size_divisibility": model.SIZE_DIVISIBILITY,
            "deep_supervision": model.DEEP_SUPERVISION,
            "task": model.TASK,
            "ignore_value": cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE,
            "test": {key.lower(): value for key, value in model.TEST.items()},
            "max_detections": cfg.TEST.DETECTIONS_PER_IMAGE,
            "things": frozenset(model.THING_IDS),
        }

    @classmethod
    def required_annotations(cls, cfg: CfgNode) -> dict[str, str]:
        task = cfg.MODEL.MASK_FORMER.TASK
        _check_tasks(cfg)
        return {ANNOTATIONS[task]: f"MODEL.MASK_FORMER.TASK {task}"}

    @classmethod
    def check_data(cls, cfg: CfgNode, stats: DatasetStats) -> list[str]:
        """Check the numbers of classes and queries against the data.

        Raises:
            ConfigError: panoptic data have more classes than the model, or other things.
        """
        model, classes = cfg.MODEL.MASK_FORMER, len(stats.stuff_names)
        if model.TASK != "instance" and classes > cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES:
            raise ConfigError(
                f"MODEL.SEM_SEG_HEAD.NUM_CLASSES is {cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES}, the data "
                f"have {classes} classes; auto follows the data."
            )
        things = {number for number in model.THING_IDS if number < classes}
        if model.TASK == "panoptic" and stats.thing_ids and things != set(stats.thing_ids):
            raise ConfigError(
                f"MODEL.MASK_FORMER.THING_IDS lists {first_few(sorted(things))}, of the data "
                f"{first_few(stats.thing_ids)} are things; auto follows the data."
            )
        return []

    @property
    def size_divisibility(self) -> int:
        return max(self.divisor, self.backbone.size_divisibility)

    def predict(self, images: ImageList, all_layers: bool) -> MaskPredictions:
        """Predict from all decoder layers, or from the last one only."""
        features = self.backbone(images.tensor)
        decoded = self.pixel_decoder([features[name] for name in self.in_features])
        return self.predictor(decoded, all_layers)

    def targets(self, batch: list[dict]) -> list[MaskTargets]:
        """Return the masks and classes per image."""
        names = [str(item.get("file_name", "")) for item in batch]
        if self.task == "semantic":
            labels = [item["sem_seg"].to(self.device) for item in batch]
            return [
                MaskTargets.from_semantic(each, self.ignore_value, name)
                for each, name in zip(labels, names, strict=True)
            ]
        pairs = zip(super().targets(batch), names, strict=True)
        return [MaskTargets.from_instances(instances, name) for instances, name in pairs]

    def losses(self, images: ImageList, targets: list[MaskTargets]) -> dict[str, Tensor]:
        masks = MaskTargets.cat(targets, images.tensor.shape[-2:])
        return self.criterion(self.predict(images, self.deep_supervision), masks)

    def detect(self, images: ImageList) -> list[FoundMasks]:
        found = self.predict(images, all_layers=False)
        padded = tuple(images.tensor.shape[-2:])
        pairs = zip(found.logits[-1], found.masks[-1], images.image_sizes, strict=True)
        return [FoundMasks(logits, masks, padded, size) for logits, masks, size in pairs]

    def postprocess(self, found: FoundMasks, height: int, width: int) -> dict[str, Any]:
        """Return "sem_seg", "instances" and "panoptic_seg", as far as the config asks for them."""
        size, output = (height, width), {}
        tasks = self.test["tasks"]
        if "semantic" in tasks:
            first = inference.resizes_first(tasks)
            output["sem_seg"] = inference.semantic_scores(found, size, first)
        if "instance" in tasks:
            things = self.things if self.task == "panoptic" else None
            kept = inference.instances(
                found, size, self.max_detections, self.test["score_thresh"], things
            )
            if things is not None:
                kept.pred_classes = inference.thing_classes(kept.pred_classes, things)
            output["instances"] = kept
        if "panoptic" in tasks:
            thresholds = self.test["object_thresh"], self.test["overlap_thresh"]
            output["panoptic_seg"] = inference.panoptic(
                found, size, *thresholds, self.things, self.segments_inside_masks
            )
        return output


def num_classes(cfg: CfgNode) -> int:
    """Return the number of classes of the task, without "no object"."""
    if cfg.MODEL.MASK_FORMER.TASK == "instance":
        return cfg.MODEL.MASK_FORMER.NUM_CLASSES
    return cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES


def loss_weights(cfg: CfgNode) -> dict[str, float]:
    """Return the weights of losses and matching costs."""
    loss = cfg.MODEL.MASK_FORMER.LOSS
    names = ("class_weight", "mask_weight", "dice_weight")
    return {name: loss[name.upper()] for name in names}


def feature_channels(cfg: CfgNode, backbone: Any) -> list[int]:
    """Return the widths of `MODEL.MASK_FORMER.IN_FEATURES`.

    Raises:
        ConfigError: the backbone lacks one of them.
    """
    shapes = backbone.output_shape()
    for name in cfg.MODEL.MASK_FORMER.IN_FEATURES:
        if name not in shapes:
            raise ConfigError(
                f"MODEL.MASK_FORMER.IN_FEATURES: the backbone has no feature map {name!r}, "
                f"only {', '.join(shapes)}"
            )
    return [shapes[name].channels for name in cfg.MODEL.MASK_FORMER.IN_FEATURES]


def _check_tasks(cfg: CfgNode) -> None:
    model = cfg.MODEL.MASK_FORMER
    pairs = [("TASK", model.TASK), *(("TEST.TASKS", task) for task in model.TEST.TASKS)]
    for key, task in pairs:
        if task not in TASKS:
            raise ConfigError(
                f"MODEL.MASK_FORMER.{key}: there is no {task!r}, only {', '.join(TASKS)}"
            )
