"""The meta-architecture of Panoptic-DeepLab: two heads on one backbone, and the grouping.

Source: Cheng et al., "Panoptic-DeepLab", 2020, arXiv:1911.10194, figure 2.
"""

from typing import Any, cast

import torch
from torch import Tensor, nn

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.modeling import META_ARCH_REGISTRY, build_backbone, build_sem_seg_head
from detectron2.modeling.postprocessing import sem_seg_postprocess, wanted_size
from detectron2.structures import BitMasks, Boxes, ImageList, Instances

from .instance_head import (
    INS_EMBED_BRANCHES_REGISTRY,
    PanopticDeepLabInsEmbedHead,
    build_ins_embed_branch,
)
from .post_processing import get_panoptic_segmentation
from .semantic_head import PanopticDeepLabSemSegHead

__all__ = [
    "INS_EMBED_BRANCHES_REGISTRY",
    "PanopticDeepLab",
    "PanopticDeepLabInsEmbedHead",
    "PanopticDeepLabSemSegHead",
    "build_ins_embed_branch",
]

VOID = -1  # the id of pixels without a segment


@META_ARCH_REGISTRY.register()
class PanopticDeepLab(nn.Module):
    """Panoptic segmentation from the bottom up: classes of pixels, grouped around centres.

    The metadata of `cfg.DATASETS.TRAIN[0]` names the things in "thing_dataset_id_to_contiguous_id"
    and says by "label_divisor" how ids are built.

    Raises:
        ValueError: the two keys USE_DEPTHWISE_SEPARABLE_CONV differ.
    """

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(self, cfg: CfgNode) -> None:
        super().__init__()
        section = cfg.MODEL.PANOPTIC_DEEPLAB
        if section.USE_DEPTHWISE_SEPARABLE_CONV != (
            cfg.MODEL.SEM_SEG_HEAD.USE_DEPTHWISE_SEPARABLE_CONV
        ):
            raise ValueError(
                "USE_DEPTHWISE_SEPARABLE_CONV of MODEL.PANOPTIC_DEEPLAB and of MODEL.SEM_SEG_HEAD "
                "have to be equal"
            )
        self.backbone = build_backbone(cfg)
        self.sem_seg_head = build_sem_seg_head(cfg, self.backbone.output_shape())
        self.ins_embed_head = build_ins_embed_branch(cfg, self.backbone.output_shape())
        values = {"pixel_mean": cfg.MODEL.PIXEL_MEAN, "pixel_std": cfg.MODEL.PIXEL_STD}
        for name, value in values.items():
            self.register_buffer(name, torch.tensor(value).view(-1, 1, 1), persistent=False)
        self.meta: Any = MetadataCatalog.get(cfg.DATASETS.TRAIN[0])
        self.stuff_area: int = section.STUFF_AREA
        self.threshold: float = section.CENTER_THRESHOLD
        self.nms_kernel: int = section.NMS_KERNEL
        self.top_k: int = section.TOP_K_INSTANCE
        self.predict_instances: bool = section.PREDICT_INSTANCES
        self.size_divisibility: int = section.SIZE_DIVISIBILITY
        self.benchmark_network_speed: bool = section.BENCHMARK_NETWORK_SPEED

    @property
    def device(self) -> torch.device:
        return self.pixel_mean.device

    def forward(self, batched_inputs: list[dict[str, Any]]) -> dict[str, Tensor] | list[dict]:
        """Return losses in training, otherwise the predictions of each image.

        Predictions are dicts of "sem_seg", (classes, height, width) scores; "panoptic_seg", a pair
        of (height, width) ids, category * label_divisor + number, -1 for void, and None; and with
        `PREDICT_INSTANCES` "instances".

        Args:
            batched_inputs: per image a dict of "image": (C, H, W); in training the targets of
                `PanopticDeepLabTargetGenerator`, of which "sem_seg_weights" are optional; in
                inference optionally "height" and "width" of the predictions.
        """
        pixels = [self._on_device(x["image"]) for x in batched_inputs]
        images = self._batch([(image - self.pixel_mean) / self.pixel_std for image in pixels])
        features = self.backbone(images.tensor)
        scores, losses = self.sem_seg_head(features, *self._semantic_targets(batched_inputs))
        centers, offsets, *instance_losses = self.ins_embed_head(
            features, *self._instance_targets(batched_inputs)
        )
        if self.training:
            return {**losses, **instance_losses[0], **instance_losses[1]}
        if self.benchmark_network_speed:
            return []
        return [
            self._result(maps, size, *wanted_size(x, size))
            for *maps, size, x in zip(
                scores, centers, offsets, images.image_sizes, batched_inputs, strict=True
            )
        ]

    def _on_device(self, values: Tensor) -> Tensor:
        return values.to(self.device)

    def _batch(self, maps: list[Tensor], pad_value: float = 0.0) -> ImageList:
        multiple = self.size_divisibility
        if multiple <= 0:
            multiple = self.backbone.size_divisibility
        return ImageList.from_tensors(maps, multiple, pad_value)

    def _targets(
        self, batched_inputs: list[dict[str, Any]], name: str, pad_value: float = 0.0
    ) -> Tensor | None:
        """Stack a target of all images, padded like them; None if the inputs lack it."""
        if name not in batched_inputs[0]:
            return None
        maps = [self._on_device(x[name]) for x in batched_inputs]
        return self._batch(maps, pad_value).tensor

    def _semantic_targets(self, batched_inputs: list[dict]) -> tuple[Tensor | None, Tensor | None]:
        ignored = cast(float, self.sem_seg_head.ignore_value)
        labels = self._targets(batched_inputs, "sem_seg", ignored)
        return labels, self._targets(batched_inputs, "sem_seg_weights")

    def _instance_targets(self, batched_inputs: list[dict]) -> list[Tensor | None]:
        names = ("center", "center_weights", "offset", "offset_weights")
        center, *others = [self._targets(batched_inputs, name) for name in names]
        return [None if center is None else center[:, None], *others]

    def _result(
        self, maps: list[Tensor], size: tuple[int, int], height: int, width: int
    ) -> dict[str, Any]:
        """Return the predictions of an image from its scores, centres and offsets."""
        # Offsets are not rescaled with the map, as published: ids are exact at the input's size.
        scores, centers, offsets = (sem_seg_postprocess(m, size, height, width) for m in maps)
        ids, _ = get_panoptic_segmentation(
            scores.argmax(dim=0, keepdim=True),
            centers,
            offsets,
            thing_ids=self._things,
            label_divisor=self.meta.label_divisor,
            stuff_area=self.stuff_area,
            void_label=VOID,
            threshold=self.threshold,
            nms_kernel=self.nms_kernel,
            top_k=self.top_k,
        )
        result = {"sem_seg": scores, "panoptic_seg": (ids[0], None)}
        if self.predict_instances:
            result["instances"] = self._instances(ids[0], scores.softmax(dim=0), centers[0])
        return result

    @property
    def _things(self) -> list[int]:
        return [*self.meta.thing_dataset_id_to_contiguous_id.values()]

    def _instances(self, ids: Tensor, probabilities: Tensor, centers: Tensor) -> Instances:
        """Return the things among segments, scored by class times centre (section 3.4)."""
        numbers = ids.unique()
        categories = numbers // self.meta.label_divisor
        is_thing = torch.isin(categories, categories.new_tensor(self._things))
        found = Instances((ids.shape[0], ids.shape[1]))
        found.pred_classes = categories[is_thing]
        found.pred_masks = ids == numbers[is_thing, None, None]
        found.scores = centers.new_tensor(
            [
                _score(probabilities[category], centers, mask)
                for category, mask in zip(found.pred_classes, found.pred_masks, strict=True)
            ]
        )
        boxes = BitMasks(found.pred_masks).get_bounding_boxes()
        found.pred_boxes = Boxes(boxes.tensor.to(ids.device))
        return found


def _score(probability: Tensor, centers: Tensor, mask: Tensor) -> float:
    """Return the mean class probability of a segment times the score at its centre of mass."""
    y, x = mask.nonzero().float().mean(dim=0).long().tolist()
    return float(probability[mask].mean() * centers[y, x])
