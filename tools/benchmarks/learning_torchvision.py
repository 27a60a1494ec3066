"""Train a detector of torchvision for some CPU minutes and write its detections.

Run as a script by `learning.py`. The model starts from random weights, as torchvision's package
brings none. Recipe: AdamW, warm-up and one cosine, flips; in bfloat16 where the processor has it.
"""

import argparse
import json
import math
import random
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.models import detection
from torchvision.transforms.v2.functional import pil_to_tensor

SIDE = 256  # shorter side in pixels, that of d2ext's recipe; ssdlite has a fixed 320
BATCH, RATE, DECAY = 4, 1e-3, 0.05
RESERVE = 0.1  # share of the CPU time for prediction
Item = tuple[int, Path, Tensor, Tensor]


def read(data: str) -> tuple[list[Item], list[int]]:
    """Read "ANNOTATIONS.json:IMAGES".

    Returns:
        Per image: its id, file, boxes (N, 4) XYXY in pixels and labels (N,) from 1; and the
        category ids by label.
    """
    file, _, folder = data.rpartition(":")
    content = json.loads(Path(file).read_bytes())
    categories = sorted(category["id"] for category in content["categories"])
    boxes, labels = defaultdict(list), defaultdict(list)
    for annotation in content["annotations"]:
        x, y, width, height = annotation["bbox"]
        if width > 0 and height > 0:
            boxes[annotation["image_id"]].append([x, y, x + width, y + height])
            labels[annotation["image_id"]].append(1 + categories.index(annotation["category_id"]))
    items = []
    for image in content["images"]:
        number = image["id"]
        found = torch.tensor(boxes[number], dtype=torch.float32).reshape(-1, 4)
        classes = torch.tensor(labels[number], dtype=torch.int64)
        items.append((number, Path(folder, image["file_name"]), found, classes))
    return items, categories


def load(file: Path) -> Tensor:
    """Return a (3, H, W) image in 0..1."""
    return pil_to_tensor(Image.open(file).convert("RGB")).float() / 255


def example(item: Item) -> tuple[Tensor, dict[str, Tensor]]:
    """Return an image and its targets, flipped half of the time."""
    _, file, boxes, labels = item
    image = load(file)
    if random.random() < 0.5:
        image, width = image.flip(-1), image.shape[-1]
        boxes = torch.stack((width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]), 1)
    return image, {"boxes": boxes, "labels": labels}


def train(model: nn.Module, items: list[Item], seconds: float, bfloat16: bool) -> int:
    """Train until the process has used its CPU seconds; return the number of images shown."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=DECAY)
    start, shown = time.process_time(), 0
    while (progress := (time.process_time() - start) / (seconds - start)) < 1:
        factor = min(1.0, progress / 0.05) * (1 + math.cos(math.pi * progress)) / 2
        for group in optimizer.param_groups:
            group["lr"] = RATE * factor
        images, targets = zip(*map(example, random.sample(items, BATCH)), strict=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            loss = sum(model(images, targets).values())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        shown += BATCH
    return shown


@torch.no_grad()
def predict(model: nn.Module, items: list[Item], categories: list[int]) -> list[dict[str, Any]]:
    """Return the detections of all images in COCO's format."""
    found = []
    for number, file, *_ in items:
        (output,) = model([load(file)])
        rows = zip(*(output[key].tolist() for key in ("boxes", "labels", "scores")), strict=True)
        for (x0, y0, x1, y1), label, value in rows:
            about = {"image_id": number, "category_id": categories[label - 1], "score": value}
            found.append({**about, "bbox": [x0, y0, x1 - x0, y1 - y0]})
    return found


def main() -> None:
    """Train and predict as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("model", "train", "val"):
        parser.add_argument(name)
    parser.add_argument("minutes", type=float)
    parser.add_argument("output", type=Path)
    args = parser.parse_args()
    torch.manual_seed(0)
    random.seed(0)
    items, categories = read(args.train)
    sizes = {} if "ssd" in args.model else {"min_size": SIDE, "max_size": 2 * SIDE}
    count = {"num_classes": len(categories) + 1, "weights": None, "weights_backbone": None}
    model = getattr(detection, args.model)(**count, **sizes)
    bfloat16 = torch.backends.cpu.get_cpu_capability() == "AVX512"
    shown = train(model.train(), items, 60 * args.minutes * (1 - RESERVE), bfloat16)
    print(f"{shown} images of {len(items)} shown")
    detections = predict(model.eval(), read(args.val)[0], categories)
    args.output.write_text(json.dumps(detections), encoding="utf-8")


if __name__ == "__main__":
    main()
