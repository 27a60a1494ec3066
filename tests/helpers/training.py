"""A model, data and an evaluator so small that a training takes a second.

Run as a program it trains:

    python -m engine.tiny FOLDER [--resume] [--die MOMENT ITERATION] [KEY VALUE ...]
"""

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

import d2ext
from d2ext.config import get_cfg
from d2ext.data import register_datasets
from d2ext.engine.hooks import SavePictures
from d2ext.engine.trainer import Trainer
from detectron2.config import CfgNode
from detectron2.engine import HookBase
from detectron2.evaluation import DatasetEvaluator
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.structures import Boxes, Instances

__all__ = ["TinyTrainer", "d2ext", "tiny_cfg", "write_data"]
CLASSES = ("dot", "cross")


@META_ARCH_REGISTRY.register()
class TinyDetector(nn.Module):
    """Two losses, a norm with statistics, dropout, a backbone and a position table."""

    def __init__(self, cfg: CfgNode) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 4, 3, stride=4), nn.BatchNorm2d(4), nn.ReLU())
        self.pos_embed = nn.Parameter(torch.zeros(4))
        self.dropout = nn.Dropout(0.5)
        self.head = nn.Linear(4, len(CLASSES))
        self.to(cfg.MODEL.DEVICE)

    def forward(self, batch: list[dict[str, Any]]) -> Any:
        device = self.head.weight.device
        images = torch.stack([item["image"].to(device, torch.float32) / 255 for item in batch])
        logits = self.head(self.dropout(self.backbone(images).mean((2, 3)) + self.pos_embed))
        if not self.training:
            return [self._found(item, row) for item, row in zip(batch, logits, strict=True)]
        counts = [item["instances"].gt_classes.bincount(minlength=len(CLASSES)) for item in batch]
        target = torch.stack(counts).to(logits)
        return {"loss_count": (logits - target).square().mean(), "loss_size": logits.abs().mean()}

    def _found(self, item: dict[str, Any], logits: Tensor) -> dict[str, Instances]:
        found = Instances((item["height"], item["width"]))
        found.pred_boxes = Boxes(torch.tensor([[4.0, 4.0, 12.0, 12.0]]))
        found.scores, found.pred_classes = logits.sigmoid().max().view(1), logits.argmax().view(1)
        return {"instances": found}


class MeanScore(DatasetEvaluator):
    """AP stands for the mean score: any change of the weights changes it."""

    def reset(self) -> None:
        self.scores: list[float] = []

    def process(self, inputs: list[dict], outputs: list[dict]) -> None:
        self.scores += [output["instances"].scores.item() for output in outputs]

    def evaluate(self) -> dict[str, dict[str, float]]:
        return {"bbox": {"AP": 100 * float(np.mean(self.scores))}}


class TinyTrainer(Trainer):
    """Draws no pictures, which takes longer than all the rest."""

    @classmethod
    def build_evaluator(cls, cfg: CfgNode, dataset_name: str) -> DatasetEvaluator:
        return MeanScore()

    def build_last_hooks(self) -> list[HookBase | None]:
        return [hook for hook in super().build_last_hooks() if not isinstance(hook, SavePictures)]


def tiny_cfg(folder: Path, *overrides: Any) -> CfgNode:
    """A config of 20 iterations on the data in `folder`/data; the output goes to `folder`/out."""
    cfg = get_cfg()
    write_data(folder / "data")
    annotations = str(folder / "data" / "annotations.json")
    cfg.DATASETS.REGISTER = [
        {"name": f"tiny_{folder.name}", "path": annotations, "images": str(folder / "data")}
    ]
    register_datasets(cfg)
    cfg.DATASETS.TRAIN = cfg.DATASETS.TEST = (f"tiny_{folder.name}",)
    cfg.MODEL.META_ARCHITECTURE, cfg.MODEL.DEVICE, cfg.MODEL.WEIGHTS = "TinyDetector", "cpu", ""
    cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MIN_SIZE_TEST = (32,), 32
    cfg.DATALOADER.NUM_WORKERS = 0
    cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.BASE_LR = 2, 0.05
    cfg.SOLVER.MAX_ITER, cfg.SOLVER.STEPS, cfg.SOLVER.WARMUP_ITERS = 20, (15,), 5
    cfg.SOLVER.CHECKPOINT_PERIOD, cfg.TEST.EVAL_PERIOD, cfg.TEST.PICTURES = 4, 6, 0
    cfg.SEED, cfg.OUTPUT_DIR = 1, str(folder / "out")
    cfg.merge_from_list(list(overrides))
    return cfg


def write_data(folder: Path, count: int = 6) -> None:
    """COCO annotations and noise images of 32x32 pixels."""
    if (folder / "annotations.json").exists():
        return
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    images, annotations = [], []
    for number in range(count):
        name = f"{number}.png"
        Image.fromarray(random.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(folder / name)
        images.append({"id": number, "file_name": name, "width": 32, "height": 32})
        box = [4.0, 4.0, 8.0, 8.0]
        label = 1 + number % 2
        own = {"id": number + 1, "image_id": number, "category_id": label}
        annotations.append({**own, "bbox": box, "area": 64.0, "iscrowd": 0})
    categories = [{"id": n + 1, "name": name} for n, name in enumerate(CLASSES)]
    document = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "annotations.json").write_text(json.dumps(document), encoding="utf-8")


def main(folder: str, *arguments: str) -> None:
    """Train as a user would, in a process that may be killed: `--die MOMENT ITERATION`."""
    words = list(arguments)
    resume, moment, when = "--resume" in words, "", 0
    if resume:
        words.remove("--resume")
    if "--die" in words:
        at = words.index("--die")
        moment, when = words[at + 1], int(words[at + 2])
        del words[at : at + 3]
    torch.set_num_threads(1)
    torch.manual_seed(0 if not resume else os.getpid())  # a resumed run must not depend on it
    trainer = TinyTrainer(tiny_cfg(Path(folder), *words))
    trainer.resume_or_load(resume=resume)
    if moment:
        die(trainer, moment, when)
    trainer.train()


def die(trainer: Trainer, moment: str, iteration: int) -> None:
    """Let the process be killed at an iteration: after its "step", in "evaluate" or in "save"."""

    def kill(*_: Any, **__: Any) -> Any:
        if trainer.iter >= iteration:
            os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))
        return originals[moment](*_, **__)

    originals = {"step": trainer.run_step, "save": os.replace, "evaluate": MeanScore.evaluate}
    owner: Any = {"step": trainer, "save": os, "evaluate": MeanScore}[moment]
    setattr(owner, {"step": "run_step", "save": "replace"}.get(moment, moment), kill)


if __name__ == "__main__":
    main(*sys.argv[1:])
