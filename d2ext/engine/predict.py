"""The prediction command: images in, annotated images and a JSON of detections out."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from pycocotools import mask as coco_mask
from tqdm import tqdm

import d2ext.data
import d2ext.modeling  # noqa: F401  (registers)
from d2ext.checkpoint import load_for_evaluation, read_metadata
from d2ext.config import inherit_auto, load_config
from d2ext.config.load import class_counts
from d2ext.data.resize import resize_to
from d2ext.engine.devices import choose_device
from d2ext.engine.inputs import find_images
from d2ext.errors import ConfigError, DataError
from d2ext.evaluation import annotate
from d2ext.evaluation.drawing import class_name
from d2ext.files import replacing
from d2ext.modeling.deploy import fuse_norms
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.data import transforms as T
from detectron2.data.detection_utils import read_image
from detectron2.modeling import build_model
from detectron2.structures import Instances

RESULTS = "predictions.json"
_READABLE = 640  # pixels: pictures of smaller images are enlarged towards this, for their labels

EXAMPLES = """\
example:
  python tools/demo.py --config-file configs/dyhead_swint.yaml --input a.jpg photos/ "*.png" \\
      --output predictions --confidence 0.4 MODEL.WEIGHTS output/model_final.pth

Written are the images with their detections drawn in, and predictions.json: for every image its
file, size and detections, each with its box (x0, y0, x1, y1 in pixels), score, class and, if the
model gives one, mask (COCO run lengths).
"""


def main(argv: Sequence[str] | None = None) -> None:
    """Predict as the arguments say.

    Raises:
        UserError: config, weights or inputs are missing or wrong; for images that cannot be read,
            after all others are done.
    """
    args = argument_parser().parse_args(argv)
    if not 0 <= args.confidence <= 1:
        raise ConfigError(f"--confidence is a score from 0 to 1, got {args.confidence}.")
    output = Path(args.output)
    images = find_images(args.input, output)
    predictor = Predictor(load_config(args.config_file, args.opts))
    entries, faults = _predict_all(predictor, images, output, args.confidence)
    _write_results(output / RESULTS, predictor.names, args.confidence, entries)
    count = sum(len(entry["detections"]) for entry in entries)
    print(f"{count} detections in {len(entries)} images: {output / RESULTS}")
    if not count:
        print(f"none reaches --confidence {args.confidence}; a lower one may show some")
    if faults:
        raise DataError(f"{len(faults)} of {len(images)} images left out: {'; '.join(faults)}")


def argument_parser() -> argparse.ArgumentParser:
    """The arguments of tools/demo.py."""
    parser = argparse.ArgumentParser(
        description="Find objects in images with a trained model.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--config-file", required=True, help="the config of the training, e.g. output/config.yaml"
    )
    parser.add_argument(
        "--input", required=True, nargs="+", help="images, folders of images, patterns"
    )
    parser.add_argument("--output", default="predictions", help="folder for what is written")
    parser.add_argument(
        "--confidence",
        type=float,
        default=0.5,
        help="least score of a detection (default: 0.5); the model has a lower limit of its own",
    )
    parser.add_argument(
        "opts",
        nargs=argparse.REMAINDER,
        metavar="KEY VALUE",
        help="config values; MODEL.WEIGHTS is needed",
    )
    return parser


class Predictor:
    """A trained model that takes single images: Detectron2's `DefaultPredictor`, for d2ext's files.

    Number and names of the classes are those of the weights; where the file does not say, those of
    the config's data set; else the classes are numbered.

    Args:
        cfg: from `load_config`; what is `auto` in it is taken from the weights.
    Raises:
        WeightsError: MODEL.WEIGHTS is empty, missing, unreadable or of another model.
    """

    def __init__(self, cfg: CfgNode) -> None:
        self.names = _settle(cfg)
        cfg.MODEL.DEVICE, note = choose_device(cfg.MODEL.DEVICE)
        if note:
            print(note)
        self.model = build_model(cfg).eval()
        load_for_evaluation(self.model, cfg.MODEL.WEIGHTS)
        fuse_norms(self.model)
        self.format = cfg.INPUT.FORMAT
        shortest = cfg.INPUT.MIN_SIZE_TEST
        by_edge = T.ResizeShortestEdge([shortest, shortest], cfg.INPUT.MAX_SIZE_TEST)
        self.resize = resize_to(cfg) or by_edge

    @torch.no_grad()
    def __call__(self, image: np.ndarray) -> Instances:
        """(H, W, 3) RGB uint8 -> instances in its pixels, on the CPU."""
        height, width = image.shape[:2]
        model_image = image[:, :, ::-1] if self.format == "BGR" else image
        resized = self.resize.get_transform(model_image).apply_image(model_image)
        tensor = torch.as_tensor(np.ascontiguousarray(resized.transpose(2, 0, 1)))
        outputs = self.model([{"image": tensor, "height": height, "width": width}])
        return outputs[0]["instances"].to("cpu")


def _settle(cfg: CfgNode) -> list[str]:
    """Let `auto` values and class counts follow the weights; returns the names of the classes."""
    metadata = read_metadata(cfg.MODEL.WEIGHTS) if cfg.MODEL.WEIGHTS else {}
    if "config" in metadata:
        inherit_auto(cfg, metadata["config"])
    names = metadata.get("thing_classes") or _names_of_data(cfg)
    for key in class_counts(cfg):
        if names and key in cfg.AUTO:
            cfg.merge_from_list([key, len(names)])
    cfg.AUTO = []
    return list(names)


def _names_of_data(cfg: CfgNode) -> Sequence[str]:
    """Of the first data set whose classes are known without reading it."""
    datasets = (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST)
    known = (MetadataCatalog.get(name).get("thing_classes", None) for name in datasets)
    return next(filter(None, known), ())


def _predict_all(
    predictor: Predictor, images: dict[Path, PurePath], output: Path, confidence: float
) -> tuple[list[dict[str, Any]], list[str]]:
    """An entry for each image that can be read, a message for each that cannot."""
    entries, faults = [], []
    # No bar where nobody watches: in files and pipes it is a mess.
    for file, name in tqdm(images.items(), unit="image", disable=None):
        try:
            image = read_image(str(file), format="RGB")
        except UnidentifiedImageError:
            faults.append(f"{file} (not an image)")
            continue
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            faults.append(f"{file} ({error})")
            continue
        found = predictor(image)
        found = found[found.scores >= confidence]
        _save_picture(output / name, image, found, predictor.names)
        entries.append(_entry(file, name, found, predictor.names))
    return entries, faults


def _save_picture(path: Path, image: np.ndarray, found: Instances, names: list[str]) -> None:
    scale = max(1, _READABLE // max(image.shape[:2]))
    picture = Image.fromarray(annotate(image, found, {"thing_classes": names}, scale))
    with replacing(path) as temporary:
        picture.save(temporary, quality=92)


def _entry(file: Path, name: PurePath, found: Instances, names: list[str]) -> dict[str, Any]:
    """What the JSON says of an image."""
    height, width = found.image_size
    boxes, classes = found.pred_boxes.tensor.tolist(), found.pred_classes.tolist()
    detections: list[dict[str, Any]] = [
        {
            "box": [round(value, 2) for value in box],
            "score": round(score, 4),
            "class_id": class_id,
            "class_name": class_name(class_id, {"thing_classes": names}),
        }
        for box, score, class_id in zip(boxes, found.scores.tolist(), classes, strict=True)
    ]
    if found.has("pred_masks"):
        for detection, mask in zip(detections, found.pred_masks.numpy(), strict=True):
            runs = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
            detection["mask"] = {"size": runs["size"], "counts": runs["counts"].decode("ascii")}
    return {
        "file": str(file),
        "picture": name.as_posix(),
        "width": width,
        "height": height,
        "detections": detections,
    }


def _write_results(
    path: Path, names: list[str], confidence: float, entries: list[dict[str, Any]]
) -> None:
    content = {"classes": names, "confidence": confidence, "images": entries}
    with replacing(path) as temporary:
        text = json.dumps(content, indent=1, ensure_ascii=False)
        temporary.write_text(text, encoding="utf-8")
