"""Cases of DETR, Conditional DETR and DAB-DETR."""

from typing import Any

import torch
from torch import Tensor

from d2ext.modeling.meta_arch import padding_mask
from d2ext.modeling.set_prediction import SetTargets
from d2ext.modeling.transformer import resize_mask
from d2ext.parity.detectors import watch
from d2ext.projects.detr import single_scale_layouts as layouts
from d2ext.projects.detr.coco_classes import NUM_IDS
from d2ext.projects.detr.modeling.segmentation import binary_masks
from d2ext.projects.detr.parity import outputs
from d2ext.projects.detr.parity.case import FamilyCase
from d2ext.projects.detr.parity.outputs import Outputs
from d2ext.projects.detr.parity.settings import SINGLE_SCALE_IGNORED
from detectron2.config import CfgNode
from detectron2.modeling import build_model

ARCHITECTURES = {
    layouts.DETR: "DETR",
    layouts.CONDITIONAL_DETR: "ConditionalDETR",
    layouts.DAB_DETR: "DABDETR",
}


class SingleScaleCase(FamilyCase):
    """A case of a model with one feature map."""

    ignored = SINGLE_SCALE_IGNORED

    def cfg(self) -> CfgNode:
        cfg = super().cfg()
        cfg.MODEL.META_ARCHITECTURE = ARCHITECTURES[self.layout]
        cfg.MODEL.DAB_DETR.NUM_PATTERNS = self.config.get("num_patterns", 0)
        if self.config.get("dataset_file") == "coco_panoptic":
            cfg.MODEL.DETR.PANOPTIC.ENABLED = True
            cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = self.config["num_classes"]
            cfg.MODEL.DETR.PANOPTIC.THING_IDS = list(range(NUM_IDS))
        return cfg

    def outputs(self) -> Outputs:
        """Yield everything that the case may store."""
        model: Any = build_model(self.cfg()).eval()
        parameters = self.load(model)
        batch = self.batch()
        with torch.no_grad():
            yield from self._evaluated(model, model.preprocess(batch))
        # In float32 units that are off by rounding alone change whole rows of gradients.
        model.double()
        images, targets = model.preprocess(batch), SetTargets.cat(model.targets(batch))
        groups = model.predict(images, targets)
        names = [*map(str, range(len(groups[0].logits) - 1)), "final"]
        yield from outputs.matches(model.criterion.match(groups, targets)[0], names, targets)
        losses = outputs.losses(model, groups, targets)
        yield from ((f"loss.{name}", loss) for name, loss in losses.items())
        yield from outputs.gradients(losses["total"], parameters)

    def _evaluated(self, model: Any, images: Any) -> Outputs:
        parts = {"backbone": model.backbone, "pos": model.position_encoding}
        parts |= {"input_proj": model.input_proj, "decoder": model.decoder}
        for side in ("encoder", "decoder"):
            layers = getattr(model, side).layers
            parts |= {f"{side}.layer{index}": layer for index, layer in enumerate(layers)}
        seen = watch(parts)
        found = model.predict(images)[0]
        feature = seen["backbone"][model.in_feature]
        mask = resize_mask(padding_mask(images), feature.shape[-2:])
        yield "mask.0", mask
        # A dilated C5 has the stride of C4.
        yield from ((f"backbone.C{level}", feature) for level in (4, 5))
        yield "pos.0", seen["pos"]
        yield "input_proj.0", seen["input_proj"]
        for name in (name for name in seen if ".layer" in name):
            padded = name.startswith("encoder")
            yield name, _without_padding(seen[name], mask) if padded else seen[name]
        yield from _decoded(seen["decoder"])
        yield from outputs.predictions(found)
        yield from outputs.detections(model, found, images)
        if found.masks is not None:
            yield from _masks(model, found, images)


def _decoded(decoder: Any) -> Outputs:
    hidden, reference = decoder if isinstance(decoder, tuple) else (decoder, None)
    yield "decoder.hs", hidden
    if reference is not None:
        yield "decoder.reference", reference


def _masks(model: Any, found: Any, images: Any) -> Outputs:
    yield "pred_masks", found.masks
    for index, own in enumerate(model.detect(images)):
        masks = own.resized(own.instances.query)
        yield f"det{index}.masks", binary_masks(masks, model.mask_thresh)
        if model.panoptic is not None:
            ids, segments = model.panoptic(own, own.instances.image_size)
            facts = [[each["id"], each["category_id"], each["isthing"]] for each in segments]
            yield f"det{index}.panoptic", ids
            yield f"det{index}.panoptic_segments", torch.tensor(facts).reshape(-1, 3)


def _without_padding(tokens: Tensor, mask: Tensor) -> Tensor:
    return tokens.masked_fill(mask.flatten(1)[..., None], 0)
