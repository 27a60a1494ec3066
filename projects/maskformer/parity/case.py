"""Cases whose settings are the config keys of MaskFormer's and Mask2Former's code."""

import re
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

import d2ext.projects.maskformer as project
from d2ext.config import get_cfg
from d2ext.errors import DataError
from d2ext.parity.core_settings import SWIN
from d2ext.parity.detectron2_case import Detectron2Case, leaves, merge_setting
from d2ext.projects.maskformer.modeling.predictions import MaskTargets
from d2ext.projects.maskformer.parity.settings import HEAD, KEYS, MODEL, check_settings
from detectron2.config import CfgNode
from detectron2.structures import Instances

ARCHITECTURES = {
    "MaskFormerHead": "MaskFormer",
    "PerPixelBaselineHead": "PerPixelBaseline",
    "PerPixelBaselinePlusHead": "PerPixelBaselinePlus",
}
SEGMENTOR = "SemanticSegmentor"  # Detectron2's, of the baselines; pads for the backbone alone
DEFORMABLE = "MSDeformAttnPixelDecoder"
DEFORMABLE_FEEDFORWARD = 1024  # of its encoder, whatever the settings say
BLOCKS = {6: 50, 23: 101, 36: 152}  # of res4, by the depth of the ResNet


class MaskFormerCase(Detectron2Case):
    """A case of MaskFormer, Mask2Former or a per-pixel baseline."""

    @property
    def deformable(self) -> bool:
        """True for Mask2Former."""
        return self.settings[HEAD].get("PIXEL_DECODER_NAME") == DEFORMABLE

    def cfg(self) -> CfgNode:
        """Return the config that the settings give, on the CPU."""
        settings = leaves(self.config.get("changed_from_official", {})) | leaves(self.settings)
        check_settings(settings, self.deformable)
        cfg = get_cfg()
        project.add_config(cfg)
        cfg.MODEL.DEVICE = "cpu"
        head, former = self.settings[HEAD], self.settings.get(MODEL, {})
        cfg.MODEL.META_ARCHITECTURE = ARCHITECTURES[head["NAME"]]
        cfg.MODEL.RESNETS.STRIDE_IN_1X1 = False
        for theirs, ours in KEYS.items():
            if f"MODEL.{theirs}" in settings:
                merge_setting(cfg, f"MODEL.{ours}", settings[f"MODEL.{theirs}"])
        cfg.MODEL.MASK_FORMER.NUM_CLASSES = head["NUM_CLASSES"]
        # LOSS_TYPE is a setting of DeepLab: the code of the baselines, as Mask2Former's repository
        # has it, does not read it and averages over all pixels.
        cfg.MODEL.MASK_FORMER.LOSS.PER_PIXEL = "cross_entropy"
        if self.settings["MODEL.META_ARCHITECTURE"] == SEGMENTOR:
            cfg.MODEL.MASK_FORMER.SIZE_DIVISIBILITY = 0
        cfg.TEST.DETECTIONS_PER_IMAGE = settings.get("TEST.DETECTIONS_PER_IMAGE", 100)
        self._set_encoder(cfg, head)
        self._set_tasks(cfg, former.get("TEST", {}))
        self._set_backbone(cfg, head["IN_FEATURES"])
        return cfg

    def targets(self, size: Sequence[int]) -> MaskTargets:
        """Return the ground truth of the batch, masks padded to `size` (height, width)."""
        images = [MaskTargets.from_instances(self._truth(item)) for item in self.batch("bitmask")]
        return MaskTargets.cat(images, size)

    def draw(self, name: str, shape: Sequence[int], device: torch.device) -> Tensor:
        """Return the authors' random points."""
        seed = zlib.crc32(f"points.{name}".encode())
        generator = np.random.Generator(np.random.PCG64(seed))
        return torch.from_numpy(generator.random(tuple(shape), dtype=np.float32)).to(device)

    def _truth(self, item: dict) -> Instances:
        """Return the instances of an image, in semantic models only the first one per class."""
        instances = item["instances"]
        if "only the first is kept" not in self.facts["input"]["ground_truth"]:
            return instances
        classes = instances.gt_classes.tolist()
        return instances[[classes.index(label) for label in dict.fromkeys(classes)]]

    def _set_encoder(self, cfg: CfgNode, head: dict[str, Any]) -> None:
        pixel = cfg.MODEL.MASK_FORMER.PIXEL_DECODER
        if head.get("PIXEL_DECODER_NAME", "BasePixelDecoder") != "BasePixelDecoder":
            pixel.ENCODER_LAYERS = head["TRANSFORMER_ENC_LAYERS"]
        pixel.ENCODER_FEEDFORWARD = cfg.MODEL.MASK_FORMER.FEEDFORWARD
        if self.deformable:
            cfg.MODEL.META_ARCHITECTURE = "Mask2Former"
            cfg.MODEL.MASK_FORMER.DECODER_LAYERS -= 1  # theirs counts the predictions
            pixel.ENCODER_FEEDFORWARD = DEFORMABLE_FEEDFORWARD
            pixel.ENCODER_LEVELS = len(head["DEFORMABLE_TRANSFORMER_ENCODER_IN_FEATURES"])

    def _set_tasks(self, cfg: CfgNode, test: dict[str, Any]) -> None:
        model = cfg.MODEL.MASK_FORMER
        # Without switches of its own, semantic segmentation is always on.
        switches = {"semantic": "SEMANTIC_ON", "instance": "INSTANCE_ON", "panoptic": "PANOPTIC_ON"}
        model.TEST.TASKS = [
            task for task, key in switches.items() if test.get(key, task == "semantic")
        ]
        model.TASK = model.TEST.TASKS[-1]
        model.TEST.OBJECT_THRESH = float(test.get("OBJECT_MASK_THRESHOLD", 0.0))
        model.TEST.OVERLAP_THRESH = float(test.get("OVERLAP_THRESHOLD", 0.0))
        things = re.search(r"ids (\d+)\.\.(\d+) are things", self.config["words"])
        if things:
            model.THING_IDS = list(range(int(things[1]), int(things[2]) + 1))

    def _set_backbone(self, cfg: CfgNode, features: list[str]) -> None:
        if "Swin" in self.settings["MODEL.BACKBONE.NAME"]:
            self._set_swin(cfg, features)
            return
        blocks = len({name.split(".")[2] for name in self.shapes if ".res4." in name})
        if blocks not in BLOCKS:
            raise DataError(f"{self.name}: no ResNet here has {blocks} blocks in res4")
        cfg.MODEL.RESNETS.DEPTH = BLOCKS[blocks]
        cfg.MODEL.RESNETS.OUT_FEATURES = cfg.MODEL.MASK_FORMER.IN_FEATURES = features
        cfg.MODEL.BACKBONE.NAME = "build_resnet_backbone"
        if "backbone.stem.conv3.weight" in self.shapes:
            cfg.MODEL.BACKBONE.NAME = "build_deep_stem_resnet_backbone"
            cfg.MODEL.RESNETS.STEM_OUT_CHANNELS = self.shapes["backbone.stem.conv3.weight"][0]

    def _set_swin(self, cfg: CfgNode, features: list[str]) -> None:
        cfg.MODEL.BACKBONE.NAME = "SwinTransformer"
        section = {name.lower(): value for name, value in self.settings["MODEL.SWIN"].items()}
        SWIN.merge(cfg, "config.settings.MODEL.SWIN", section)
        cfg.MODEL.SWIN.DROP_PATH_RATE = 0.0
        stages = [name.replace("res", "stage") for name in features]
        cfg.MODEL.SWIN.OUT_FEATURES = cfg.MODEL.MASK_FORMER.IN_FEATURES = stages
