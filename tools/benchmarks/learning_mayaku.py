"""Train the query detector of mayaku and write its detections.

Run as a script by `learning.py`, with the Python of an environment of its own that has mayaku
(Apache-2.0). Its weights and the configurations within them are downloads, so the model starts from
random weights and is built from the package's schema: the widths that its documentation states for
the smallest model, the learning rate of its fine-tuning.
"""

import argparse
import json
from pathlib import Path
from typing import Any

SIDE = 256  # shorter side in pixels, that of d2ext's recipe
BATCH, RATE = 4, 3e-4


def configuration(classes: int) -> dict[str, Any]:
    """Return the configuration by the names of mayaku's schema."""
    sizes = {"min_size_train": [SIDE], "min_size_test": SIDE}
    sizes |= {"max_size_train": 2 * SIDE, "max_size_test": 2 * SIDE}
    return {
        "input": sizes,
        "model": {
            "meta_architecture": "uniquery",
            "backbone": {"name": "convnext_femto", "freeze_at": 0},
            "fpn": {"out_channels": 128},
            "roi_heads": {"num_classes": classes},
            "uniquery_head": {"hidden_dim": 128, "num_stages": 3, "uniquery_generator": True},
        },
        "solver": {
            "optimizer_name": "AdamW",
            "base_lr": RATE,
            "weight_decay": 0.05,
            "ims_per_batch": BATCH,
            "clip_gradients_enabled": True,
        },
        "dataloader": {"num_workers": 0},
    }


def train(args: argparse.Namespace, content: dict[str, Any], folder: Path) -> Path:
    """Train and return the file of the weights that mayaku takes as the final ones."""
    from mayaku import train  # type: ignore[import-not-found] # in its own environment
    from mayaku.config import MayakuConfig  # type: ignore[import-not-found]

    file, _, images = args.train.rpartition(":")
    config = MayakuConfig.model_validate(configuration(len(content["categories"])))
    data = {"train_annotations": Path(file), "train_images": Path(images)}
    options = {"output_dir": folder, "num_epochs": int(args.epochs), "device": "cpu"}
    return train(config, **data, **options)["final_weights"]


def predict(weights: Path, data: str) -> list[dict[str, Any]]:
    """Return the detections of the images of "ANNOTATIONS.json:IMAGES" in COCO's format."""
    from mayaku import from_pretrained

    file, _, images = data.rpartition(":")
    content = json.loads(Path(file).read_bytes())
    ids = sorted(category["id"] for category in content["categories"])
    model = from_pretrained(weights, device="cpu")
    found = []
    for image in content["images"]:
        output = model(str(Path(images, image["file_name"])))
        boxes = output.pred_boxes.tensor.tolist()
        rows = zip(boxes, output.scores.tolist(), output.pred_classes.tolist(), strict=True)
        for (x0, y0, x1, y1), value, label in rows:
            about = {"image_id": image["id"], "category_id": ids[label], "score": value}
            found.append({**about, "bbox": [x0, y0, x1 - x0, y1 - y0]})
    return found


def main() -> None:
    """Train and predict as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("train", "val", "epochs", "output"):
        parser.add_argument(name)
    args = parser.parse_args()
    content = json.loads(Path(args.train.rpartition(":")[0]).read_bytes())
    weights = train(args, content, Path("mayaku_run").absolute())
    Path(args.output).write_text(json.dumps(predict(weights, args.val)), encoding="utf-8")


if __name__ == "__main__":
    main()
