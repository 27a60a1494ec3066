"""Cases of DETR3D: its modules, its head on made-up features, and the detector from images."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from d2ext.modeling.set_prediction import Matches, SetPredictions, SetTargets
from d2ext.parity import recipe
from d2ext.parity.case import Case, Comparison
from d2ext.parity.detectors import watch
from d2ext.parity.readers import register_parity_reader
from d2ext.projects.detr3d.modeling.box_code import decode_boxes, denormalise, encode_boxes
from d2ext.projects.detr3d.modeling.criterion import SpaceCriterion, space_targets
from d2ext.projects.detr3d.modeling.decoder import CameraView
from d2ext.projects.detr3d.modeling.decoding import SpaceDetections, decode_detections
from d2ext.projects.detr3d.modeling.detr3d import build_criterion
from d2ext.projects.detr3d.modeling.head import DETR3DHead
from d2ext.projects.detr3d.modeling.sampling import project_points, sample_features
from d2ext.projects.detr3d.parity.settings import detector_config, head_config
from detectron2.modeling import build_model

Outputs = Iterator[tuple[str, Tensor]]
FAR = 1e6  # a distance that no match has: of another class


class DETR3DCase(Case):
    """A case whose made-up calibration and ground truth are among the golden numbers."""

    @property
    def batch_size(self) -> int:
        return self.facts["input"]["batch"]

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the padded images, in pixels."""
        height, width = self.facts["input"]["image_height_width_after_padding"]
        return height, width

    def given(self, key: str) -> Tensor:
        """Return one of the numbers that the case stores whole."""
        return torch.from_numpy(self.golden[key])

    def features(self) -> list[Tensor]:
        """Make up the features of each level: (B * N, C, H, W)."""
        facts, config = self.facts["input"], self.config
        shape = (facts["batch"], config["cameras"], config["embed_dims"], 2, 3)
        levels = []
        for level, (height, width) in enumerate(facts["level_sizes"]):
            rng = np.random.Generator(np.random.PCG64(facts["seed"] * 10 + level))
            small = torch.from_numpy(rng.standard_normal(shape)).flatten(0, 1)
            stretched = nn.functional.interpolate(
                small, (height, width), mode="bilinear", align_corners=True
            )
            levels.append(stretched.float())
        return levels

    def view(self, dtype: torch.dtype = torch.float32) -> CameraView:
        """Return the made-up features and cameras."""
        levels = [level.to(dtype) for level in self.features()]
        return CameraView(levels, self.given("input.lidar2img").to(dtype), self.image_size)

    def targets(self) -> SetTargets:
        """Return the ground truth of all samples."""
        names = [f"gt{sample}" for sample in range(self.batch_size)]
        return SetTargets.cat(
            [space_targets(self.given(f"{n}.boxes"), self.given(f"{n}.labels"), n) for n in names]
        )

    def compare(self, key: str, value: Tensor | None) -> Comparison:
        """Compare one output; unknown velocities of the ground truth have to be unknown."""
        if value is not None and key.startswith("gt") and key.endswith(".boxes"):
            unknown = np.isnan(self.golden[key]) != value.isnan().numpy()
            return Comparison(key, np.inf if unknown.any() else 0.0)
        return super().compare(key, value)

    def inputs(self) -> Outputs:
        """Yield the made-up inputs; those that the case holds whole are the inputs themselves."""
        for key in self.facts["outputs"]:
            if key in self.golden and key.startswith(("input.", "gt", "code.boxes")):
                yield key, self.given(key)
        if (
            "level_sizes" in self.facts["input"]
            and "input.features_level0" in self.facts["outputs"]
        ):
            for number, level in enumerate(self.features()):
                key = f"input.features_level{number}"
                channels = int(self.golden[f"{key}.shape"][2])
                cameras = level.unflatten(0, (-1, self.config["cameras"]))
                yield key, cameras[:, :, :channels]


def _is_case(facts: dict[str, Any], *words: str) -> bool:
    """Tell if a `case.json` is of DETR3D and its description begins with one of the words."""
    described = str(facts.get("config", {}).get("in_words", ""))
    return "pc_range" in facts.get("config", {}) and described.startswith(words)


def modules(case: DETR3DCase) -> dict[str, Tensor]:
    """Compute the pieces: sampling, attention, a layer, the decoder, codes, matching, losses."""
    head = DETR3DHead.from_config(head_config(case.config)).eval()
    case.load(nn.ModuleDict({"head": head}))
    found = dict(case.inputs())
    with torch.no_grad():
        found |= dict(_sampled(case)) | dict(_decoded(case, head)) | dict(_coded(case))
    return found | dict(_trained_pieces(case))


register_parity_reader(lambda facts: _is_case(facts, "pieces of DETR3D"), modules, read=DETR3DCase)


def _sampled(case: DETR3DCase) -> Outputs:
    """Yield the samples of every camera and level one by one, from the fused operation."""
    view, config = case.view(), case.config
    points = denormalise(case.given("input.reference_points"), config["pc_range"])
    locations, seen = project_points(points, view.lidar2img, view.image_size)
    cameras, levels, queries = config["cameras"], config["levels"], config["num_query"]
    single = torch.eye(cameras * levels).view(1, 1, -1, cameras, levels)
    weights = single.expand(case.batch_size, queries, -1, -1, -1).flatten(1, 2)
    each = locations.repeat_interleave(cameras * levels, dim=2)
    everywhere = torch.ones(each.shape[:3], dtype=torch.bool)
    samples = sample_features(view.levels, each, everywhere, weights)
    samples = samples.unflatten(1, (queries, cameras, 1, levels)).permute(0, 5, 1, 2, 3, 4)
    yield "sampling.features", samples
    yield "sampling.features_few_channels", samples[:, :3]
    yield "sampling.mask", seen.transpose(1, 2)


def _decoded(case: DETR3DCase, head: DETR3DHead) -> Outputs:
    shape = case.config["num_query"], case.batch_size, case.config["embed_dims"]
    seed, view = case.facts["input"]["seed"], case.view()
    made_up = [
        np.random.Generator(np.random.PCG64(seed + n)).standard_normal(shape) for n in (1, 2)
    ]
    query, position = (torch.from_numpy(each).float() for each in made_up)
    yield "input.query", query
    yield "input.query_pos", position
    reference = case.given("input.reference_points")
    context = query.transpose(0, 1), position.transpose(0, 1), reference, view
    layer: Any = head.decoder.layers[0]
    yield "cross_attention", layer.cross_attn(*context).transpose(0, 1)
    yield "layer", layer(*context).transpose(0, 1)
    states, _, references = head.decoder(*context)
    yield "decoder.states", states.transpose(1, 2)
    yield "decoder.references", references


def _coded(case: DETR3DCase) -> Outputs:
    encoded = encode_boxes(case.given("code.boxes"))
    yield "code.encoded", encoded
    yield "code.decoded", decode_boxes(encoded)
    options = case.config["max_num"], case.config["post_center_range"]
    given = case.given("input.pred_logits"), case.given("input.pred_code")
    for sample, (logits, code) in enumerate(zip(*given, strict=True)):
        found = decode_detections(logits, code, *options)
        yield f"decode{sample}.boxes", found.boxes
        yield f"decode{sample}.scores", found.scores
        yield f"decode{sample}.labels", found.classes
        yield f"final{sample}.boxes_bottom_centre", _bottom(found.boxes)


def _trained_pieces(case: DETR3DCase) -> Outputs:
    logits, code = (
        case.given(f"input.pred_{name}").requires_grad_() for name in ("logits", "code")
    )
    predictions, targets = SetPredictions(logits[None], code[None]), case.targets()
    criterion = build_criterion(head_config(case.config))
    class_cost, box_cost = criterion.matcher.parts(predictions, targets)  # type: ignore[attr-defined]
    image = targets.image_index()
    pairs = criterion.match([predictions], targets)[0]
    for sample in range(case.batch_size):
        yield f"cost{sample}.class", class_cost[image == sample, 0].T
        yield f"cost{sample}.box", box_cost[image == sample, 0].T
        assigned = torch.full((case.config["num_query"],), -1)
        for query, target in _pairs(pairs, 0, sample, targets).tolist():
            assigned[query] = target
        yield f"assigned{sample}", assigned
    losses = criterion([predictions], targets)
    yield "loss.cls", losses["loss_ce"]
    yield "loss.bbox", losses["loss_bbox"]
    torch.stack(list(losses.values())).sum().backward()
    yield "grad.pred_code", code.grad
    yield "grad.pred_logits", logits.grad


def head_on_features(case: DETR3DCase) -> dict[str, Tensor]:
    """Run the head on made-up features."""
    cfg = head_config(case.config)
    head = DETR3DHead.from_config(cfg).eval()
    parameters = case.load(nn.ModuleDict({"head": head}))
    found = dict(case.inputs())
    with torch.no_grad():
        found["reference_points.initial"] = head.start(1)[2][0]
        found |= dict(_predicted(case, head(case.view())))
    predictions = head.double()(case.view(torch.float64))
    return found | dict(_trained(case, build_criterion(cfg), predictions, parameters))


register_parity_reader(
    lambda facts: _is_case(facts, "the whole DETR3D head"), head_on_features, read=DETR3DCase
)


def whole_detector(case: DETR3DCase) -> dict[str, Tensor]:
    """Run the detector from images."""
    model: Any = build_model(detector_config(case.config, case.facts["input"])).eval()
    parameters = case.load(model)
    seen = watch({"bottom_up": model.backbone.bottom_up, "backbone": model.backbone})
    found = dict(case.inputs())
    with torch.no_grad():
        predictions = model.predict(model.preprocess(_batch(case)))
    levels = zip(("backbone.out", "neck.level"), seen.values(), strict=True)
    for name, features in levels:
        found |= {f"{name}{index}": each for index, each in enumerate(features.values())}
    found |= dict(_predicted(case, predictions))
    predictions = model.double().predict(model.preprocess(_batch(case)))
    return found | dict(_trained(case, model.criterion, predictions, parameters))


register_parity_reader(
    lambda facts: _is_case(facts, "the whole detector"), whole_detector, read=DETR3DCase
)


def _batch(case: DETR3DCase) -> list[dict]:
    seed = case.facts["input"]["seed"]
    samples = []
    for sample in range(case.batch_size):
        seeds = [(seed + sample) * 100 + camera for camera in range(case.config["cameras"])]
        pixels = np.stack([recipe.image(each, *case.image_size) for each in seeds])
        images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float()
        samples.append({"image": images, "lidar2img": case.given("input.lidar2img")[sample]})
    return samples


def _predicted(case: DETR3DCase, predictions: SetPredictions) -> Outputs:
    for layer, (logits, codes) in enumerate(
        zip(predictions.logits, predictions.boxes, strict=True)
    ):
        yield f"layer{layer}.logits", logits
        yield f"layer{layer}.code", codes
    options = case.config["max_num"], case.config["post_center_range"]
    last = zip(predictions.logits[-1], predictions.boxes[-1], strict=True)
    for sample, (logits, codes) in enumerate(last):
        found = decode_detections(logits, codes, *options)
        order = _match_detections(case, sample, found)
        yield f"final{sample}.boxes", _bottom(found.boxes)[order]
        yield f"final{sample}.scores", found.scores[order]
        yield f"final{sample}.labels", found.classes[order]


def _match_detections(case: DETR3DCase, sample: int, found: SpaceDetections) -> Tensor:
    """Return the index of our detection for each of the case's: near-equal scores swap ranks."""
    boxes, labels = case.given(f"final{sample}.boxes"), case.given(f"final{sample}.labels")
    apart = torch.cdist(boxes, _bottom(found.boxes.detach()))
    other = labels[:, None] != found.classes
    _, columns = linear_sum_assignment((apart + FAR * other).numpy())
    return torch.from_numpy(columns)


# In float64: in float32, units that are off by rounding alone change whole rows of gradients.
def _trained(
    case: DETR3DCase,
    criterion: SpaceCriterion,
    predictions: SetPredictions,
    parameters: dict[str, Tensor],
) -> Outputs:
    targets = case.targets()
    pairs = criterion.match([predictions], targets)[0]
    for layer in (0, len(predictions.logits) - 1):
        for sample in range(case.batch_size):
            yield f"assigned{sample}.layer{layer}", _pairs(pairs, layer, sample, targets)
    losses = criterion([predictions], targets)
    for name, loss in losses.items():
        yield f"loss.{_their_name(name)}", loss
    torch.stack(list(losses.values())).sum().backward()
    for name, parameter in parameters.items():
        if parameter.grad is not None:
            yield f"grad.{name}", parameter.grad


def _their_name(name: str) -> str:
    """Return the authors' name of a loss: "loss_ce_0" is "d0.loss_cls"."""
    kind, _, layer = name.replace("loss_ce", "loss_cls").removeprefix("loss_").partition("_")
    return f"d{layer}.loss_{kind}" if layer else f"loss_{kind}"


def _pairs(pairs: Matches, layer: int, sample: int, targets: SetTargets) -> Tensor:
    """Return (M, 2) query and target, counted within the sample."""
    own = pairs.image == sample
    start = sum(targets.counts[:sample])
    return torch.stack((pairs.query[layer, own], pairs.target[layer, own] - start), dim=1)


def _bottom(boxes: Tensor) -> Tensor:
    """Lower (n, 9) boxes by half their height: to z of the bottom centre."""
    return torch.cat((boxes[:, :2], boxes[:, 2:3] - boxes[:, 5:6] / 2, boxes[:, 3:]), dim=1)
