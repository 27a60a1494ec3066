"""Training compared with the official package: seconds per step, and differences of the losses.

Run as a script, it trains with the one package that its process imports as `detectron2`. Weights
and images are those of `d2ext.parity.recipe`; shuffling, flips and sampling follow the seed.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import cv2
import torch

from benchmarks.providers import ROOT, in_turns
from benchmarks.registry import add_names_argument, register_benchmark

CONFIGS = ROOT / "d2ext" / "runtime" / "detectron2" / "model_zoo" / "configs"
MODELS = {
    "retinanet": "COCO-Detection/retinanet_R_50_FPN_1x.yaml",
    "mask_rcnn": "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.yaml",
}
IMAGES, OBJECTS, CLASSES = 8, 5, 80
GOALS = "at least 1.0x, losses within 1e-4"


def report(
    name: str, official: str | None, size: int, iterations: int, threads: int, rounds: int
) -> None:
    """Print the seconds per training step of both packages, and how far their losses differ.

    Args:
        name: a key of `MODELS`.
        official: folder that holds the official `detectron2`, or None to leave it out.
        size: height of the images, in pixels; they are a third wider.
        iterations: training steps of two images each.
        threads: of PyTorch.
        rounds: the providers take turns; the fastest step of each counts.
    """
    print(f"\n{name} R50-FPN, {iterations} steps of 2 images {size}x{size * 4 // 3}  [{GOALS}]")
    with tempfile.TemporaryDirectory() as folder:
        write_data(Path(folder), size)
        arguments = [folder, name, str(iterations), str(threads)]
        found = in_turns(__file__, arguments, official, rounds)
    seconds = {who: min(min(run["seconds"]) for run in runs) for who, runs in found.items()}
    for who, best in seconds.items():
        ratio = f"{seconds['official'] / best:6.2f}x" if official is not None else ""
        print(f"  {who:24} {best:9.3f} s a step {ratio}")
    if official is not None:
        own, theirs = (found[who][0]["losses"] for who in ("d2ext", "official"))
        differences = [abs(a - b) for a, b in zip(own, theirs, strict=True)]
        print(f"  losses from {theirs[0]:.4f} to {theirs[-1]:.4f}: largest difference", end=" ")
        print(f"{max(differences):.1e}, in step {differences.index(max(differences)) + 1}")


def write_data(folder: Path, size: int) -> None:
    """Write made-up images and a COCO file of boxes, with rectangles as masks."""
    from d2ext.parity import recipe

    images, annotations = [], []
    for number in range(IMAGES):
        height, width = size, size * 4 // 3
        cv2.imwrite(str(folder / f"{number}.png"), recipe.image(number, height, width))
        about = {"id": number, "file_name": f"{number}.png", "height": height, "width": width}
        images.append(about)
        boxes, classes = recipe.boxes(number, height, width, OBJECTS, CLASSES)
        for (x0, y0, x1, y1), label in zip(boxes.tolist(), classes.tolist(), strict=True):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": label + 1,
                    "bbox": [x0, y0, x1 - x0, y1 - y0],
                    "area": (x1 - x0) * (y1 - y0),
                    "segmentation": [[x0, y0, x1, y0, x1, y1, x0, y1]],
                    "iscrowd": 0,
                }
            )
    categories = [{"id": i + 1, "name": f"class {i}"} for i in range(CLASSES)]
    whole = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "train.json").write_text(json.dumps(whole), encoding="utf-8")


def train(folder: Path, name: str, iterations: int) -> dict[str, list[float]]:
    """Train with `DefaultTrainer` and return the total loss and the seconds of every step.

    Args:
        folder: where `write_data` has written.
        name: a key of `MODELS`.
        iterations: number of steps.
    """
    import d2ext  # noqa: F401
    from detectron2.data.datasets import register_coco_instances
    from detectron2.engine import DefaultTrainer, HookBase
    from detectron2.utils.env import seed_all_rng

    class Watch(HookBase):
        def __init__(self) -> None:
            self.seconds: list[float] = []
            self.losses: list[float] = []

        def before_step(self) -> None:
            self.start = time.perf_counter()

        def after_step(self) -> None:
            self.seconds.append(time.perf_counter() - self.start)
            self.losses.append(self.trainer.storage.latest()["total_loss"][0])

    register_coco_instances("made_up", {}, str(folder / "train.json"), str(folder))
    seed_all_rng(1)
    trainer = DefaultTrainer(_config(name, iterations, folder))
    _fill(trainer.model)
    watch = Watch()
    trainer.register_hooks([watch])
    seed_all_rng(1)  # again: the initial weights drew from the generators too
    trainer.train()
    return {"seconds": watch.seconds, "losses": watch.losses}


def _config(name: str, iterations: int, folder: Path) -> Any:
    from detectron2.config import get_cfg

    cfg = get_cfg()
    cfg.merge_from_file(str(CONFIGS / MODELS[name]))
    cfg.merge_from_list(
        [
            *("MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", ""),
            *("DATASETS.TRAIN", ("made_up",), "DATASETS.TEST", ()),
            *("DATALOADER.NUM_WORKERS", 0, "SEED", 1),
            *("INPUT.MIN_SIZE_TRAIN", (0,)),  # pixels as they are: resizing differs by one level
            *("SOLVER.IMS_PER_BATCH", 2, "SOLVER.MAX_ITER", iterations),
            *("SOLVER.BASE_LR", 0.001, "SOLVER.STEPS", (), "SOLVER.WARMUP_ITERS", 10),
            *("OUTPUT_DIR", str(folder / "output")),
        ]
    )
    Path(cfg.OUTPUT_DIR).mkdir(exist_ok=True)
    return cfg


def _fill(model: torch.nn.Module) -> None:
    """Fill the weights with values that follow from their names and shapes."""
    from d2ext.parity import recipe

    # Smaller where images enter and where boxes and scores leave, so that the losses are moderate.
    quiet = {"stem.conv1.weight": 0.02, "bbox_pred.": 0.1, "anchor_deltas.": 0.1, "cls_score.": 0.1}
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if value.is_floating_point() and name not in ("pixel_mean", "pixel_std"):
                factor = next((f for part, f in quiet.items() if part in name), 1.0)
                value.copy_(torch.from_numpy(recipe.fill(name, tuple(value.shape))) * factor)


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add_names_argument(parser, MODELS)
    parser.add_argument("--official", metavar="FOLDER", help="holds the official detectron2")
    parser.add_argument("--size", type=int, default=480, help="height of the images, in pixels")
    parser.add_argument("--iterations", type=int, default=4, help="training steps per round")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=2, help="rounds; the fastest step counts")


def _run(args: argparse.Namespace) -> None:
    for name in args.names or MODELS:
        report(name, args.official, args.size, args.iterations, args.threads, args.repeats)


register_benchmark("training", "training steps compared with Detectron2's", _add_arguments, _run)

if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("name", choices=MODELS)
    parser.add_argument("iterations", type=int)
    parser.add_argument("threads", type=int)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print(json.dumps(train(args.folder, args.name, args.iterations)))
