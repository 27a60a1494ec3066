"""Mask R-CNN, R-50-FPN, compared with torchvision's: a training step and inference.

Both compute the same: configs/rcnn/torchvision with torchvision's weights, made up here; stem and
first stage frozen, norms frozen, as both train pretrained backbones.
"""

import argparse
import copy
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models import resnet50
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.backbone_utils import _resnet_fpn_extractor
from torchvision.ops import misc

from benchmarks.providers import ROOT
from benchmarks.registry import register_benchmark
from d2ext.checkpoint.conversion import convert
from d2ext.config import load_config
from d2ext.modeling import build_model
from d2ext.modeling.deploy import fuse_for_inference
from detectron2.structures import BitMasks, Boxes, Instances
from detectron2.utils.events import EventStorage

CONFIG = ROOT / "configs" / "rcnn" / "torchvision" / "mask_rcnn_r50_fpn.yaml"
SIZE, OBJECTS, CLASSES = (480, 640), 10, 80
GOALS = {"training step": 1.3, "inference": 1.5}


def torchvision_model() -> nn.Module:
    """Build torchvision's model as pretrained backbones are trained, with random weights."""
    backbone = _resnet_fpn_extractor(resnet50(norm_layer=misc.FrozenBatchNorm2d), 3)
    return MaskRCNN(backbone, CLASSES + 1, min_size=SIZE[0], max_size=SIZE[1])


def own_model(origin: nn.Module) -> nn.Module:
    """Build d2ext's model with the weights of torchvision's."""
    options = ["MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", "", "MODEL.ROI_HEADS.NUM_CLASSES", CLASSES]
    model = build_model(load_config(CONFIG, options))
    found = convert(origin.state_dict(), model.state_dict())
    model.load_state_dict(found.weights, strict=False)
    return model


def make_problem() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return an image (3, H, W) in 0..1, boxes (N, 4), classes (N,) and masks (N, H, W) uint8."""
    height, width = SIZE
    corners = torch.rand(OBJECTS, 2) * torch.tensor([width - 200.0, height - 200.0])
    boxes = torch.cat((corners, corners + 40 + 150 * torch.rand(OBJECTS, 2)), dim=1)
    masks = torch.zeros(OBJECTS, height, width, dtype=torch.uint8)
    for mask, (x0, y0, x1, y1) in zip(masks, boxes.int().tolist(), strict=True):
        mask[y0:y1, x0:x1] = 1
    return torch.rand(3, height, width), boxes, torch.randint(0, CLASSES, (OBJECTS,)), masks


def ways(batch: int) -> dict[str, dict[str, Callable[[], Any]]]:
    """Return the functions to time, by task and by who computes it."""
    theirs = torchvision_model()
    own = own_model(theirs)
    fused = fuse_for_inference(copy.deepcopy(own).eval())  # as `Predictor` does it
    problems = [make_problem() for _ in range(batch)]
    targets = [{"boxes": b, "labels": c + 1, "masks": m} for _, b, c, m in problems]
    items = []
    for image, boxes, classes, masks in problems:
        truth = Instances(SIZE, gt_boxes=Boxes(boxes), gt_classes=classes)
        truth.gt_masks = BitMasks(masks.bool())
        items.append({"image": 255 * image, "instances": truth})
    images = [image for image, *_ in problems]
    return {
        "training step": {
            "torchvision": lambda: _step(theirs, images, targets),
            "d2ext": lambda: _step(own, items),
        },
        "inference": {
            "torchvision": lambda: _infer(theirs, images),
            "d2ext": lambda: _infer(fused, items),
        },
    }


def _step(model: nn.Module, *inputs: Any) -> None:
    with EventStorage():
        losses = model.train()(*inputs)
    model.zero_grad()
    sum(losses.values()).backward()


@torch.no_grad()
def _infer(model: nn.Module, *inputs: Any) -> Any:
    return model.eval()(*inputs)


def _run(args: argparse.Namespace) -> None:
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    dtype = getattr(torch, args.dtype)
    for task, functions in ways(args.batch).items():
        goal = GOALS[task]
        size = f"{args.batch} of 3x{SIZE[0]}x{SIZE[1]}"
        print(f"\n{task}, {size}, {args.dtype}, {args.threads} threads  [goal: {goal}x]")
        seconds: dict[str, list[float]] = {who: [] for who in functions}
        for number in range(args.repeats + 1):
            for who, function in functions.items():  # in turns: load changes with time
                start = time.process_time()
                with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
                    function()
                if number:  # the first call allocates
                    seconds[who].append(time.process_time() - start)
        medians = {who: statistics.median(values) for who, values in seconds.items()}
        for who, value in medians.items():
            ratio = medians["torchvision"] / value
            print(f"  {who:24} {value:9.3f} CPU seconds {ratio:6.2f}x", flush=True)


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=1, help="images per step")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--repeats", type=int, default=3, help="timed calls; the median counts")


register_benchmark(
    "rcnn", "CPU seconds of Mask R-CNN compared with torchvision's", _add_arguments, _run
)
