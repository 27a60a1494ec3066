"""Cases of Deformable DETR, DAB-Deformable-DETR and DINO."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from d2ext.modeling.set_prediction import SetPredictions, SetTargets
from d2ext.modeling.transformer import inverse_sigmoid
from d2ext.parity.detectors import watch
from d2ext.projects.detr import deformable_layouts as layouts
from d2ext.projects.detr.modeling.denoising import DenoisingGroups, NoiseDraws
from d2ext.projects.detr.modeling.dino import DINO, EPS
from d2ext.projects.detr.modeling.two_stage import Proposals
from d2ext.projects.detr.parity import outputs
from d2ext.projects.detr.parity.case import FamilyCase
from d2ext.projects.detr.parity.outputs import Outputs
from d2ext.projects.detr.parity.settings import DEFORMABLE_KEYS, FIXED, Values
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from detectron2.structures import ImageList

ARCHITECTURES = {
    layouts.DEFORMABLE_DETR: "DeformableDETR",
    layouts.DAB_DEFORMABLE_DETR: "DABDeformableDETR",
    layouts.DINO: "DINO",
}
# Fields of `NoiseDraws` -> inputs of a case.
DRAWS = {
    "flip": "dn.draw.p",
    "classes": "dn.draw.new_label",
    "sign": "dn.draw.sign",
    "part": "dn.draw.part",
}
AREA_EPS = 1e-6  # added to areas by the code of DAB-DETR and DINO


class MultiScaleCase(FamilyCase):
    """A case of a model with deformable attention."""

    keys = DEFORMABLE_KEYS

    def fixed(self) -> Mapping[str, Values]:
        fixed = {**FIXED, "masks": (False,)}
        # The code of DAB-Deformable-DETR has DAB-DETR's options, and no reader for the activation.
        if self.layout is layouts.DINO:
            return {**fixed, "transformer_activation": ("relu",), "pre_norm": (False,)}
        return {**fixed, "two_stage": (False,)} if self._is_dab() else fixed

    def cfg(self) -> CfgNode:
        cfg = super().cfg()
        cfg.MODEL.META_ARCHITECTURE = ARCHITECTURES[self.layout]
        deformable, position = cfg.MODEL.DEFORMABLE_DETR, cfg.MODEL.DETR.POSITION
        if self._is_dab():  # its default
            deformable.BOX_REFINEMENT = self.config.get("with_box_refine", True)
        position.HALF_PIXEL = self.layout is not layouts.DINO
        if position.HALF_PIXEL:  # this encoding has no choice of temperature
            position.TEMPERATURE = [10000.0, 10000.0]
        if self.layout is not layouts.DEFORMABLE_DETR:
            cfg.MODEL.DETR.LOSS.GIOU_EPS = AREA_EPS
        return cfg

    def _is_dab(self) -> bool:
        return self.layout is layouts.DAB_DEFORMABLE_DETR

    def stages(self) -> list[int]:
        finest = 3 if self.config["num_feature_levels"] > 1 else 5
        given = [index + 2 for index in self.config.get("return_interm_indices", [])]
        return given or list(range(finest, 6))

    def outputs(self) -> Outputs:
        """Yield everything that the case may store."""
        model: Any = build_model(self.cfg()).eval()
        parameters = self.load(model)
        batch = self.batch()
        with torch.no_grad():
            yield from _evaluated(model, model.preprocess(batch))
        # In float32 units that are off by rounding alone change whole rows of gradients.
        model.double()
        images, targets = model.preprocess(batch), SetTargets.cat(model.targets(batch))
        groups = yield from self._trained(model, images, targets)
        for group, pairs in zip(groups, model.criterion.match(groups, targets), strict=True):
            if group.matches is None:
                yield from outputs.matches(pairs, _layer_names(group), targets)
        losses = outputs.losses(model, groups, targets)
        yield from ((f"loss.{name}", loss) for name, loss in losses.items())
        for alias, name in self.facts["aliases"].items():
            parameters[alias] = parameters[name]
        yield from outputs.gradients(losses["total"], parameters)
        if self.layout is not layouts.DINO:
            # These cases count a shared parameter once per name in the norm.
            grads = [each.grad.norm() for each in parameters.values() if each.grad is not None]
            yield "grad.total_norm", torch.stack(grads).norm()

    def _trained(self, model: Any, images: ImageList, targets: SetTargets) -> Any:
        """Yield what denoising gives; return the predictions that have losses."""
        if not isinstance(model, DINO):
            return model.predict(images, targets)
        draws = self._draws()
        yield from ((name, torch.from_numpy(self.golden[name])) for name in DRAWS.values())
        groups = model.denoising(targets, draws)
        yield from _noised(groups, model.num_queries)
        found = model.predict(images, targets, draws)
        yield from outputs.predictions(found[1], "dn.")
        return found

    def _draws(self) -> NoiseDraws:
        """Return the authors' random numbers; new classes stand only where they are used."""
        drawn = {ours: torch.from_numpy(self.golden[name]) for ours, name in DRAWS.items()}
        replaced = drawn["flip"] < self.config["dn_label_noise_ratio"] / 2
        classes = torch.zeros_like(replaced, dtype=torch.int64)
        classes[replaced] = drawn["classes"]
        return NoiseDraws(**{**drawn, "classes": classes})


def _layer_names(group: SetPredictions) -> list[str]:
    """Return what cases call the layers of a group: 0, 1, ..., final, or the group's own name."""
    if group.name:
        return [group.name]
    return [*map(str, range(len(group.logits) - 1)), "final"]


def _evaluated(model: Any, images: ImageList) -> Outputs:
    parts = {"backbone": model.backbone, "levels": model.levels, "decoder": model.decoder}
    parts |= {f"input_proj.{i}": each for i, each in enumerate(model.levels.input_proj)}
    for side in ("encoder", "decoder"):
        layers = getattr(model, side).layers
        parts |= {f"{side}.layer{index}": layer for index, layer in enumerate(layers)}
    if hasattr(model, "proposals"):
        parts["proposals"] = model.proposals
    seen = watch(parts)
    found = model.predict(images)
    yield from _levels(model, seen)
    padding = seen["levels"].padding_mask[..., None]
    for name in (name for name in seen if ".layer" in name):
        output = seen[name]
        yield name, output.masked_fill(padding, 0) if name.startswith("encoder") else output
    if "proposals" in seen:
        yield from _proposed(model, seen["proposals"])
    yield from _decoded(seen["decoder"])
    yield from outputs.predictions(found[0])
    for group in found[1:]:
        yield from outputs.predictions(group, f"{group.name}.")
    yield from outputs.detections(model, found[0], images)


def _levels(model: Any, seen: dict[str, Any]) -> Outputs:
    """Yield backbone features, and per level projection, padding mask and position."""
    for name in model.in_features:
        yield f"backbone.C{name[-1]}", seen["backbone"][name]  # res5 or stage5
    shapes = seen["levels"].spatial_shapes
    masks = seen["levels"].padding_mask.split([height * width for height, width in shapes], 1)
    for index, (mask, shape) in enumerate(zip(masks, shapes, strict=True)):
        mask = mask.unflatten(1, shape)
        yield f"mask.{index}", mask
        yield f"pos.{index}", model.levels.position(mask)
        yield f"input_proj.{index}", seen[f"input_proj.{index}"]


def _proposed(model: Any, proposals: Proposals) -> Outputs:
    """Yield the encoder's proposals and which of them become queries."""
    dino = isinstance(model, DINO)
    scores = proposals.logits.amax(-1) if dino else proposals.logits[..., 0]
    chosen, index = proposals.top(scores, model.num_queries)
    yield "enc.output_memory", proposals.tokens
    yield "enc.topk_index", index
    yield "enc.topk_score", scores.gather(1, index)
    yield "enc.init_box_proposal", chosen.anchors.sigmoid()


def _decoded(states: Any) -> Outputs:
    """Yield decoder outputs and references; entry i of `references` enters layer i."""
    yield "decoder.hs", torch.stack(states.outputs)
    yield "decoder.init_reference", states.references[0]
    yield "decoder.inter_references", torch.stack(states.references[1:])
    if len({each.shape for each in states.references}) == 1:
        yield "decoder.references", torch.stack(states.references)


def _noised(groups: DenoisingGroups, num_queries: int) -> Outputs:
    yield "dn.label", groups.classes
    yield "dn.box", groups.boxes
    padding = (groups.classes < 0)[..., None]
    yield "dn.query_anchor", inverse_sigmoid(groups.boxes, EPS).masked_fill(padding, 0)
    yield "dn.attn_mask", _packed(groups.attention_mask(num_queries))


def _packed(mask: Tensor) -> Tensor:
    return torch.from_numpy(np.packbits(mask.flatten().numpy()))
