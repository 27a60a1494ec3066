"""Train the smallest YOLO of ultralytics or libreyolo and write its detections.

Run as a script by `learning.py`, with the Python of an environment of its own that has the package:
ultralytics (AGPL-3.0) or libreyolo (MIT). The model starts from random weights, as neither package
brings others. The recipe is the package's own.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

SIDE = 352  # longer side in pixels; d2ext's recipe trains BCCD at 256x341


def write_yolo(data: str, folder: Path, split: str) -> dict[str, Any]:
    """Write the images (as links) and labels of "ANNOTATIONS.json:IMAGES" in YOLO's format.

    Returns:
        The content of the JSON file, its categories in the order of their ids, which is YOLO's.
    """
    file, _, images = data.rpartition(":")
    content = json.loads(Path(file).read_bytes())
    content["categories"].sort(key=lambda category: category["id"])
    for kind in ("images", "labels"):
        (folder / kind / split).mkdir(parents=True, exist_ok=True)
    for image in content["images"]:
        name = Path(image["file_name"])
        link = folder / "images" / split / name.name
        link.unlink(missing_ok=True)
        link.symlink_to(Path(images, name).absolute())
        label = folder / "labels" / split / f"{name.stem}.txt"
        label.write_text("\n".join(label_lines(content, image)), encoding="utf-8")
    return content


def label_lines(content: dict[str, Any], image: dict[str, Any]) -> list[str]:
    """Return YOLO's lines of an image: class, centre, width and height as shares of its size."""
    ids = [category["id"] for category in content["categories"]]
    width, height = image["width"], image["height"]
    lines = []
    for annotation in content["annotations"]:
        if annotation["image_id"] == image["id"]:
            x, y, w, h = annotation["bbox"]
            box = ((x + w / 2) / width, (y + h / 2) / height, w / width, h / height)
            words = [str(ids.index(annotation["category_id"])), *(f"{side:.6f}" for side in box)]
            lines.append(" ".join(words))
    return lines


def write_data(args: argparse.Namespace, folder: Path) -> Path:
    """Write the training data and the YAML file that describes them; return its path."""
    content = write_yolo(args.train, folder, "train")
    names = [category["name"] for category in content["categories"]]
    # ultralytics validates at the end whatever it is told: one image costs next to nothing.
    one = sorted((folder / "images" / "train").iterdir())[0]
    (folder / "one.txt").write_text(str(one), encoding="utf-8")
    about = {"path": str(folder), "train": "images/train", "val": "one.txt"}
    file = folder / "data.yaml"
    file.write_text(json.dumps({**about, "names": names, "nc": len(names)}), encoding="utf-8")
    return file


def train_ultralytics(data: Path, epochs: int) -> Any:
    """Train YOLO11n and return it; its last weights count, as no validation chooses others."""
    from ultralytics import YOLO  # type: ignore[import-not-found] # in its own environment

    model = YOLO("yolo11n.yaml")
    options = {"device": "cpu", "workers": 0, "plots": False, "project": str(data.parent)}
    model.train(data=str(data), epochs=epochs, imgsz=SIDE, val=False, **options)
    return model


def train_libreyolo(data: Path, epochs: int) -> Any:
    """Train YOLOv9-t and return it, with the moving average of its weights."""
    from libreyolo import LibreYOLO9  # type: ignore[import-not-found] # in its own environment

    model = LibreYOLO9(None, size="t", device="cpu")
    options = {"device": "cpu", "workers": 0, "eval_interval": 0, "project": str(data.parent)}
    model.train(data=str(data), epochs=epochs, imgsz=SIDE, pretrained=False, **options)
    return model


TRAIN: dict[str, Callable[[Path, int], Any]] = {
    "ultralytics": train_ultralytics,
    "libreyolo": train_libreyolo,
}


def predict(model: Any, content: dict[str, Any], folder: Path) -> list[dict[str, Any]]:
    """Return the detections of the validation images in COCO's format."""
    ids = [category["id"] for category in content["categories"]]
    found = []
    for image in content["images"]:
        file = folder / "images" / "val" / Path(image["file_name"]).name
        output = model.predict(str(file), imgsz=SIDE, conf=0.001)
        boxes = (output[0] if isinstance(output, list) else output).boxes
        rows = zip(boxes.xyxy.tolist(), boxes.cls.tolist(), boxes.conf.tolist(), strict=True)
        for (x0, y0, x1, y1), label, value in rows:
            about = {"image_id": image["id"], "category_id": ids[int(label)], "score": value}
            found.append({**about, "bbox": [x0, y0, x1 - x0, y1 - y0]})
    return found


def main() -> None:
    """Train and predict as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("package", choices=TRAIN)
    for name in ("train", "val", "epochs", "output"):
        parser.add_argument(name)
    args = parser.parse_args()
    folder = Path(f"{args.package}_data").absolute()
    content = write_yolo(args.val, folder, "val")
    model = TRAIN[args.package](write_data(args, folder), int(args.epochs))
    Path(args.output).write_text(json.dumps(predict(model, content, folder)), encoding="utf-8")


if __name__ == "__main__":
    main()
