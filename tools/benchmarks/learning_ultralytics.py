"""Train the nano model of ultralytics from its YAML and write its detections.

Run as a script by `learning.py`, with the Python of an environment of its own that has ultralytics
(AGPL-3.0). The model starts from random weights, its recipe is the package's own.
"""

import argparse
import json
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


def train(args: argparse.Namespace, folder: Path) -> Any:
    """Train and return the model; its last weights count, as no validation chooses others."""
    from ultralytics import YOLO  # type: ignore[import-not-found] # in its own environment

    content = write_yolo(args.train, folder, "train")
    names = [category["name"] for category in content["categories"]]
    # The package validates at the end whatever it is told: one image costs next to nothing.
    one = sorted((folder / "images" / "train").iterdir())[0]
    (folder / "one.txt").write_text(str(one), encoding="utf-8")
    about = {"path": str(folder), "train": "images/train", "val": "one.txt", "names": names}
    (folder / "data.yaml").write_text(json.dumps(about), encoding="utf-8")
    options = {"imgsz": SIDE, "device": "cpu", "workers": 0, "plots": False, "project": str(folder)}
    model = YOLO("yolo11n.yaml")
    model.train(data=str(folder / "data.yaml"), epochs=int(args.epochs), val=False, **options)
    return model


def predict(model: Any, content: dict[str, Any], folder: Path) -> list[dict[str, Any]]:
    """Return the detections of the validation images in COCO's format."""
    ids = [category["id"] for category in content["categories"]]
    found = []
    for image in content["images"]:
        file = folder / "images" / "val" / Path(image["file_name"]).name
        (output,) = model.predict(str(file), imgsz=SIDE, conf=0.001, device="cpu", verbose=False)
        boxes = output.boxes
        rows = zip(boxes.xyxy.tolist(), boxes.cls.tolist(), boxes.conf.tolist(), strict=True)
        for (x0, y0, x1, y1), label, value in rows:
            about = {"image_id": image["id"], "category_id": ids[int(label)], "score": value}
            found.append({**about, "bbox": [x0, y0, x1 - x0, y1 - y0]})
    return found


def main() -> None:
    """Train and predict as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("train", "val", "epochs", "output"):
        parser.add_argument(name)
    args = parser.parse_args()
    folder = Path("ultralytics_data").absolute()
    content = write_yolo(args.val, folder, "val")
    detections = predict(train(args, folder), content, folder)
    Path(args.output).write_text(json.dumps(detections), encoding="utf-8")


if __name__ == "__main__":
    main()
