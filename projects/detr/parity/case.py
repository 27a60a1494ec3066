"""What all reference cases of the DETR family have in common."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

import d2ext.projects.detr as project
from d2ext.checkpoint.key_matching import match
from d2ext.checkpoint.layouts import Layout
from d2ext.config import get_cfg
from d2ext.errors import DataError
from d2ext.parity import recipe
from d2ext.parity.case import Case, Comparison
from d2ext.projects.detr.parity.backbones import set_backbone
from d2ext.projects.detr.parity.outputs import Outputs
from detectron2.config import CfgNode
from detectron2.structures import BitMasks, Boxes, Instances

SHOWN = 5
TINY = 1e-30
# Settings of a case -> keys of our config, where both hold the same.
KEYS = {
    "num_classes": "MODEL.DETR.NUM_CLASSES",
    "num_queries": "MODEL.DETR.NUM_QUERIES",
    "hidden_dim": "MODEL.DETR.CHANNELS",
    "nheads": "MODEL.DETR.NUM_HEADS",
    "dim_feedforward": "MODEL.DETR.FEEDFORWARD",
    "transformer_activation": "MODEL.DETR.ACTIVATION",
    "enc_layers": "MODEL.DETR.ENCODER_LAYERS",
    "dec_layers": "MODEL.DETR.DECODER_LAYERS",
    "dropout": "MODEL.DETR.DROPOUT",
    "pre_norm": "MODEL.DETR.PRE_NORM",
    "aux_loss": "MODEL.DETR.DEEP_SUPERVISION",
    "eos_coef": "MODEL.DETR.LOSS.NO_OBJECT_WEIGHT",
    "focal_alpha": "MODEL.DETR.LOSS.FOCAL_ALPHA",
    "set_cost_class": "MODEL.DETR.MATCHER.CLASS_WEIGHT",
    "set_cost_bbox": "MODEL.DETR.MATCHER.L1_WEIGHT",
    "set_cost_giou": "MODEL.DETR.MATCHER.GIOU_WEIGHT",
    "masks": "MODEL.MASK_ON",
}
# Unweighted losses of a case -> keys of our config that hold their weights.
WEIGHTS = {
    "loss_ce": "MODEL.DETR.LOSS.CLASS_WEIGHT",
    "loss_bbox": "MODEL.DETR.LOSS.L1_WEIGHT",
    "loss_giou": "MODEL.DETR.LOSS.GIOU_WEIGHT",
    "loss_mask": "MODEL.DETR.LOSS.MASK_WEIGHT",
    "loss_dice": "MODEL.DETR.LOSS.DICE_WEIGHT",
}
# Settings that have one value here, and others that mean the same.
FIXED: dict[str, tuple[Any, ...]] = {
    "position_embedding": ("sine", "v2"),
    "batch_norm_type": ("FrozenBatchNorm2d",),
    "matcher_type": ("HungarianMatcher",),
    "decoder_sa_type": ("sa",),
    "two_stage_type": ("standard", "no"),
    "embed_init_tgt": (True,),
    "dec_layer_number": (None,),
    "fix_refpoints_hw": (-1, None),
    **dict.fromkeys(
        (
            *("unic_layers", "decoder_layer_noise", "add_channel_attention", "add_pos_value"),
            *("use_deformable_box_attn", "two_stage_pat_embed", "two_stage_add_query_num"),
            *("two_stage_bbox_embed_share", "two_stage_class_embed_share", "two_stage_learn_wh"),
            *("two_stage_keep_all_tokens", "no_interm_box_loss", "use_detached_boxes_dec_out"),
            *("dabdetr_yolo_like_anchor_update", "dabdetr_deformable_encoder"),
            "dabdetr_deformable_decoder",
        ),
        (False, 0),
    ),
}


class FamilyCase(Case):
    """A case of one of the family's models, in the published layout.

    Attributes:
        fixed: settings with one value, or with several that mean the same.
    """

    fixed: ClassVar[dict[str, tuple[Any, ...]]] = FIXED

    def __init__(self, folder: Path, layout: Layout) -> None:
        super().__init__(folder)
        self.layout = layout
        self._check_settings()

    def _check_settings(self) -> None:
        """Refuse settings that have no counterpart here."""
        for name, known in self.fixed.items():
            if self.config.get(name, known[0]) not in known:
                raise DataError(
                    f"{self.name}: config.{name}: {self.config[name]!r} is not supported, "
                    f"only {' or '.join(map(str, known))}"
                )
        weights = self.config.get("loss_weights", {})
        for name, weight in weights.items():
            kind = "_".join(name.split("_", 2)[:2])
            if weight != weights.get(kind, weight):
                raise DataError(
                    f"{self.name}: config.loss_weights: {name} weighs {weight}, but {kind} "
                    f"{weights[kind]}: all layers have the same weights here"
                )

    def cfg(self) -> CfgNode:
        """Return the config that the settings give, on the CPU."""
        cfg = get_cfg()
        project.add_config(cfg)
        cfg.MODEL.DEVICE, cfg.MODEL.WEIGHTS = "cpu", ""
        for name in KEYS.keys() & self.config.keys():
            _merge(cfg, KEYS[name], self.config[name])
        for name in WEIGHTS.keys() & self.config.get("loss_weights", {}).keys():
            _merge(cfg, WEIGHTS[name], self.config["loss_weights"][name])
        self._set_backbone(cfg)
        self._set_input(cfg)
        self._set_detections(cfg)
        temperature = [self.config.get(f"pe_temperature{axis}", 10000.0) for axis in "HW"]
        cfg.MODEL.DETR.POSITION.TEMPERATURE = [float(each) for each in temperature]
        return cfg

    def published(self) -> dict[str, Tensor]:
        """Return the weights by the authors' names; aliases share one tensor."""
        state = super().published()
        return state | {alias: state[name] for alias, name in self.facts["aliases"].items()}

    def load(self, model: nn.Module, prefix: str = "") -> dict[str, Tensor]:
        """Fill a model through the layout; return its parameters by the authors' names."""
        kept = {name for name in self.shapes if not self.layout.leaves_out(prefix + name)}
        names = {name: self.layout.rename(prefix + name) for name in kept}
        published = self.published()
        converted = {ours: published[name] for name, ours in names.items() if name in published}
        missing = match(converted, model.state_dict()).missing
        if missing:
            raise DataError(f"{self.name}: entries.json lacks {', '.join(missing[:SHOWN])} (ours)")
        model.load_state_dict(converted, strict=False)
        here = dict(model.named_parameters(remove_duplicate=False))
        return {name: here[ours] for name, ours in names.items() if ours in here}

    def batch(self) -> list[dict]:
        facts = self.facts["input"]
        counts, classes = facts["targets"]["count"], facts["targets"]["num_classes"]
        images = zip(facts["images"], counts, strict=True)
        return [self._image(image, count, classes) for image, count in images]

    def _image(self, facts: Mapping[str, int], count: int, num_classes: int) -> dict:
        size = facts["height"], facts["width"]
        pixels = recipe.image(facts["seed"], *size)
        if self.facts["input"]["channel_order"] == "BGR":
            pixels = pixels[:, :, ::-1]
        boxes, classes = recipe.boxes(facts["seed"], *size, count, num_classes)
        instances = Instances(size)
        instances.gt_boxes = Boxes(torch.from_numpy(boxes))
        instances.gt_classes = torch.from_numpy(classes)
        if self.config.get("masks"):
            instances.gt_masks = _filled(boxes, size)
        tensor = torch.from_numpy(pixels.transpose(2, 0, 1).copy()).float()
        return {"image": tensor, "instances": instances}

    def outputs(self) -> Outputs:
        """Yield everything that the case may store."""
        raise NotImplementedError

    def compare(self, key: str, value: Tensor | None) -> Comparison:
        """Compare one output; its tolerance may be "exact" or of the difference's 2-norm."""
        limits = self.facts["tolerance"].get(key, "exact")
        if limits == "exact":
            self.facts["tolerance"][key] = {}
        elif value is not None and ("rel_l2" in limits or "mismatch_fraction" in limits):
            return self._compare_whole(key, value.detach().cpu().numpy(), limits)
        return super().compare(key, value)

    def _compare_whole(self, key: str, value: np.ndarray, limits: dict[str, float]) -> Comparison:
        golden, own = self.golden.get(key), value
        if golden is None:
            digest = recipe.digest(value, self.facts.get("digest_limit", 4096))
            golden, own = self.golden[f"{key}.sample"], digest["sample"]
        if own.shape != golden.shape:
            return Comparison(key, np.inf, f"its shape is {own.shape}, not {golden.shape}")
        if "rel_l2" in limits:
            distance = float(np.linalg.norm(own - golden))
            scale = limits["rel_l2"] * float(np.linalg.norm(golden))
            return Comparison(key, _finite(distance / max(scale, TINY)))
        return Comparison(key, _finite(float(np.mean(own != golden)) / limits["mismatch_fraction"]))

    def stages(self) -> list[int]:
        """Return the numbers of the backbone's stages whose maps the transformer sees."""
        return [5]

    def _set_backbone(self, cfg: CfgNode) -> None:
        masks, stages = cfg.MODEL.DETR.MASK_HEAD, self.stages()
        finer = [stage for stage in range(2, stages[0]) if cfg.MODEL.MASK_ON]
        names = set_backbone(cfg, self.config, [*finer, *stages])
        cfg.MODEL.DETR.IN_FEATURES = names[len(finer) :]
        masks.IN_FEATURES = names[: len(finer)][::-1]
        masks.FREEZE_DETECTOR = bool(self.config.get("frozen_weights"))

    def _set_input(self, cfg: CfgNode) -> None:
        facts = self.facts["input"]
        norm = facts["normalisation"]
        cfg.INPUT.FORMAT = facts["channel_order"]
        cfg.MODEL.PIXEL_MEAN = [value * norm["divide_by"] for value in norm["mean"]]
        cfg.MODEL.PIXEL_STD = [value * norm["divide_by"] for value in norm["std"]]

    def _set_detections(self, cfg: CfgNode) -> None:
        kind = self.config["detections"]
        cfg.MODEL.DETR.LOSS.CLASSIFICATION = "softmax" if kind == "softmax" else "focal"
        if kind.startswith("topk"):
            cfg.TEST.DETECTIONS_PER_IMAGE = int(kind.removeprefix("topk"))


def _merge(cfg: CfgNode, key: str, value: Any) -> None:
    """Set a key, integers becoming floats where the key holds a float."""
    node = cfg
    *sections, leaf = key.split(".")
    for section in sections:
        node = node[section]
    node[leaf] = type(node[leaf])(value)


def _filled(boxes: np.ndarray, size: tuple[int, int]) -> BitMasks:
    """Return the pixels inside each box as its mask."""
    masks = torch.zeros(len(boxes), *size, dtype=torch.bool)
    for mask, (x0, y0, x1, y1) in zip(masks, np.rint(boxes).astype(int), strict=True):
        mask[y0:y1, x0:x1] = True
    return BitMasks(masks)


def _finite(error: float) -> float:
    return float(np.nan_to_num(error, nan=np.inf))
