#!/usr/bin/env python
"""Draw the six cameras and a bird's-eye view of nuScenes' samples, with boxes of a trained DETR3D.

python projects/detr3d/draw_samples.py --config-file output/config.yaml --data nuscenes \
    --split val --samples 10 --output pictures MODEL.WEIGHTS output/model_final.pth
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch

from d2ext.checkpoint import load_for_evaluation
from d2ext.config import load_config
from d2ext.data.formats import load_split
from d2ext.data.mappers import build_mapper
from d2ext.errors import DataError, exit_on_user_error
from d2ext.projects.detr3d.data.made_up import made_up_folder
from d2ext.projects.detr3d.data.samples import Item
from d2ext.projects.detr3d.visualization import Drawn, save_sample
from detectron2.modeling import build_model


def main(argv: Sequence[str] | None = None) -> None:
    """Draw as the arguments say."""
    args = argument_parser().parse_args(argv)
    cfg = load_config(args.config_file, args.opts)
    items = chosen(load_split(args.data or made_up_folder(), args.split).images, args)
    model = build_model(cfg).eval()
    load_for_evaluation(model, cfg.MODEL.WEIGHTS)
    mapper = build_mapper(cfg, "test")
    for item in items:
        with torch.no_grad():
            found = model([mapper(item)])[0]["boxes_3d"]
        kept = found.scores >= args.confidence
        arrays = (found.boxes, found.scores, found.classes)
        detections = Drawn.of_detections(*(each[kept].cpu().numpy() for each in arrays))
        path = args.output / f"{item['image_id']}.jpg"
        save_sample(path, item, [Drawn.of_truth(item), detections])
        print(f"{path}: {int(kept.sum())} boxes")


def chosen(items: list[Item], args: argparse.Namespace) -> list[Item]:
    """Return the sample of `--token`, or the first `--samples`.

    Raises:
        DataError: there is no such sample.
    """
    if not args.token:
        return items[: args.samples]
    found = [item for item in items if item["image_id"] == args.token]
    if not found:
        raise DataError(f"--token {args.token}: no such sample in the split {args.split}")
    return found


def argument_parser() -> argparse.ArgumentParser:
    """Return the parser of the arguments."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config-file", required=True)
    parser.add_argument("--data", type=Path, help="a nuScenes folder; default: the made-up scenes")
    parser.add_argument("--split", default="val", help="train, val or test")
    parser.add_argument("--token", help="of one sample")
    parser.add_argument("--samples", type=int, default=10, help="how many without --token")
    parser.add_argument("--confidence", type=float, default=0.3, help="least score of a box")
    parser.add_argument("--output", type=Path, default=Path("pictures"))
    parser.add_argument("opts", nargs=argparse.REMAINDER, metavar="KEY VALUE")
    return parser


if __name__ == "__main__":
    exit_on_user_error(main)
