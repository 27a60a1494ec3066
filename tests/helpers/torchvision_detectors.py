"""torchvision's detectors with made-up weights, and ours from the same state dict."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from d2ext.checkpoint.conversion import convert
from d2ext.config import load_config
from d2ext.parity import recipe
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage
from tests.helpers.weights import fill, image

SIZES = [(128, 160), (160, 128)]  # height and width in pixels: the shorter side is not resized
CONFIGS = "configs/rcnn/torchvision"


def theirs(create: Callable[..., nn.Module], num_classes: int, **options: Any) -> nn.Module:
    """Build one of torchvision's models for `num_classes`, the background included."""
    model = create(
        weights=None, weights_backbone=None, num_classes=num_classes, min_size=128, **options
    )
    fill(model)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bn3.weight"):
                parameter *= 0.2  # else activations double with every block
            if "bbox_pred" in name or "bbox_reg" in name:
                parameter *= 0.2  # boxes near their anchors
    return model.eval()


def ours(config: str, origin: nn.Module, *changes: Any) -> nn.Module:
    """Build the model of a config of `CONFIGS` with the weights of `origin`, all of them used."""
    cfg = load_config(f"{CONFIGS}/{config}.yaml", ["MODEL.DEVICE", "cpu", *changes])
    model = build_model(cfg)
    found = convert(origin.state_dict(), model.state_dict())
    match = found.match(model.state_dict())
    assert found.known
    assert match.complete
    assert not match.unexpected
    model.load_state_dict(found.weights, strict=False)
    return model.eval()


def images() -> list[Tensor]:
    """Return an image (3, H, W) in 0..255 per size of `SIZES`."""
    return [image(seed, *size) for seed, size in enumerate(SIZES)]


def truth(num_classes: int) -> list[Instances]:
    """Return three boxes per image, with classes below `num_classes`."""
    found = []
    for seed, size in enumerate(SIZES):
        boxes, classes = recipe.boxes(seed, *size, 3, num_classes)
        instances = Instances(size)
        instances.gt_boxes = Boxes(torch.from_numpy(boxes))
        instances.gt_classes = torch.from_numpy(classes)
        found.append(instances)
    return found


def detections(model: nn.Module) -> list[Instances]:
    """Return the detections of a model of ours on `images()`."""
    with torch.no_grad():
        return [found["instances"] for found in model.eval()([{"image": one} for one in images()])]


def check_detections(found: Instances, wanted: dict[str, Tensor]) -> None:
    """Compare our detections with torchvision's; those of equal scores may be in another order.

    Boxes that clipping leaves empty are in torchvision's results of dense detectors alone.
    """
    sizes = wanted["boxes"][:, 2:] - wanted["boxes"][:, :2]
    wanted = {key: wanted[key][(sizes > 0).all(dim=1)] for key in ("boxes", "labels", "scores")}
    assert len(found) == len(wanted["boxes"])
    place = (wanted["boxes"][:, None] - found.pred_boxes.tensor).abs().amax(dim=2)
    score = (wanted["scores"][:, None] - found.scores).abs()
    same = wanted["labels"][:, None] == found.pred_classes + 1
    same &= (place < 0.02) & (score < 1e-3 * wanted["scores"][:, None])
    # One of a few hundred may be another box: NMS rounds an IoU at its threshold either way.
    assert same.any(dim=1).sum() >= 0.99 * len(found)
    assert same.any(dim=0).sum() >= 0.99 * len(found)


def losses(model: nn.Module, targets: list[Instances]) -> dict[str, Tensor]:
    """Compute our training losses on the first images, with frozen norms and the seed 0."""
    batch = [
        {"image": one, "instances": found} for one, found in zip(images(), targets, strict=False)
    ]
    model.train()
    freeze_norms(model)
    _seed()
    with EventStorage(), torch.no_grad():
        return model(batch)


def their_losses(model: nn.Module, targets: list[Instances], **more: list[Tensor]) -> dict:
    """Compute torchvision's training losses under the same conditions."""
    wanted = [{"boxes": found.gt_boxes.tensor, "labels": found.gt_classes + 1} for found in targets]
    for key, values in more.items():
        for item, value in zip(wanted, values, strict=True):
            item[key] = value
    model.train()
    freeze_norms(model)
    # Resizing draws random numbers, too: both models draw the same ones only from here on.
    hook = model.transform.register_forward_hook(_seed)
    with torch.no_grad():
        found = model([one / 255 for one in images()[: len(targets)]], wanted)
    hook.remove()
    return found


def _seed(*_: Any) -> None:
    torch.manual_seed(0)


def freeze_norms(model: nn.Module) -> None:
    """Let batch norms use their running statistics."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
