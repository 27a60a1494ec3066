"""The export command: a config and weights in, a checked file out."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from d2ext.checkpoint import check_classes
from d2ext.config import load_config
from d2ext.data import dataset_stats
from d2ext.data.flags import flag_entry, register_entries
from d2ext.errors import ConfigError
from d2ext.export.accuracy import average_precision
from d2ext.export.check import ExportError, compare
from d2ext.export.exported_module import WHERE, ExportedModule, build_exported_module
from d2ext.export.exporter import exporter_for
from d2ext.export.formats import SUFFIXES, load, need_onnx, save
from d2ext.export.metadata import describe
from d2ext.export.sample_inputs import sample_batches
from d2ext.files import replacing
from d2ext.inference.inputs import find_images
from d2ext.inference.predict import Predictor
from detectron2.config import CfgNode
from detectron2.data.detection_utils import read_image

CALIBRATION = 100  # images, spread over those given
DATASET = "export_evaluate"  # the registered name of --evaluate

EXAMPLES = """\
examples:
  an ONNX file for any number of images of any size, NMS in it:
    python tools/export.py --config-file configs/dyhead_swint.yaml --format onnx \\
        --output model.onnx MODEL.WEIGHTS output/model_final.pth
  the same in 8 bits, and what that costs:
    python tools/export.py --config-file configs/dyhead_swint.yaml --format onnx --int8 \\
        --calibrate my/images --evaluate my/val.json:my/images \\
        --output model_int8.onnx MODEL.WEIGHTS output/model_final.pth
  images of one size, boxes and scores of every cell:
    python tools/export.py --config-file configs/dyhead_swint.yaml --format torchscript \\
        --output model.pt --size 512 640 --nms none MODEL.WEIGHTS output/model_final.pth
"""


def main(argv: Sequence[str] | None = None) -> None:
    """Export as the arguments say.

    Raises:
        UserError: config or weights are missing or wrong, or the file gives something else than
            the model; then what stood under its name is as it was.
    """
    args = argument_parser().parse_args(argv)
    output = _check(args)
    cfg = load_config(args.config_file, [*args.opts, "MODEL.DEVICE", "cpu"])
    predictor = Predictor(cfg)
    graph = build_exported_module(
        exporter_for(predictor.model), args.nms, args.decode, for_onnx=args.format == "onnx"
    ).eval()
    with replacing(output) as temporary:
        _write(args, cfg, graph, predictor.names, temporary)
        _follow_up(args, predictor, temporary)
    print(f"written: {output}, {output.stat().st_size / 1e6:.1f} MB")


def argument_parser() -> argparse.ArgumentParser:
    """The arguments of tools/export.py."""
    parser = argparse.ArgumentParser(
        description="Write a trained model as a file that runs without d2ext.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config-file", required=True, help="the config of the training")
    parser.add_argument("--format", required=True, choices=SUFFIXES)
    parser.add_argument("--output", required=True, help="file to write")
    parser.add_argument(
        "--nms", choices=WHERE, help="where NMS is done (default: inside, if decoding is)"
    )
    parser.add_argument(
        "--decode",
        choices=WHERE,
        default="inside",
        help="where outputs become boxes; none gives what the head predicts",
    )
    parser.add_argument(
        "--size",
        nargs=2,
        type=int,
        metavar=("HEIGHT", "WIDTH"),
        help="fix the size of images, in pixels (default: any, or INPUT.SIZE where images are "
        "resized to that)",
    )
    parser.add_argument(
        "--images",
        nargs="+",
        default=[],
        help="images to compare the file with the model on (default: made-up ones)",
    )
    parser.add_argument(
        "--int8", action="store_true", help="8 bits for weights and activations; ONNX alone"
    )
    parser.add_argument(
        "--calibrate",
        nargs="+",
        default=[],
        metavar="IMAGES",
        help=f"images or folders that ranges of 8 bits are taken from; {CALIBRATION} are used",
    )
    parser.add_argument(
        "--evaluate",
        metavar="ANNOTATIONS:IMAGES",
        help="a data set as --val of the training, to print the AP of the model and of the file",
    )
    parser.add_argument(
        "opts",
        nargs=argparse.REMAINDER,
        metavar="KEY VALUE",
        help="config values; MODEL.WEIGHTS is needed",
    )
    return parser


def _check(args: argparse.Namespace) -> Path:
    """Complete and check what can be before a model is built; returns the file to write."""
    if args.nms is None:
        args.nms = args.decode
    if args.format == "onnx":
        need_onnx()
    if args.int8 and (args.format != "onnx" or not args.calibrate):
        raise ConfigError("--int8 needs --format onnx and --calibrate IMAGES.")
    if args.evaluate and (args.format != "onnx" or args.nms == "none"):
        raise ConfigError("--evaluate needs --format onnx, with NMS inside.")
    if args.evaluate:
        register_entries([[DATASET, *flag_entry(args.evaluate, "val")[0]]])
        dataset_stats([DATASET])  # now, and not after minutes of exporting
    output = Path(args.output)
    args.calibrate = list(find_images(args.calibrate, output, "--calibrate")) if args.int8 else []
    args.images = list(find_images(args.images, output, "--images")) if args.images else []
    suffix = SUFFIXES[args.format]
    if output.suffix.lower() != suffix or output.is_dir():
        raise ConfigError(
            f"--output {output}: a file of --format {args.format} is named *{suffix}."
        )
    return output


def _write(
    args: argparse.Namespace, cfg: CfgNode, graph: ExportedModule, names: list[str], path: Path
) -> None:
    """Write the file and compare it with the model."""
    size = _size(args, cfg, graph)
    order = cfg.INPUT.FORMAT
    batches = sample_batches(graph.exporter, args.images, order, size)
    graph(batches[-1])  # names the outputs
    metadata = describe(cfg, graph.exporter, names, size, args.nms, args.decode, graph.output_names)
    save(graph, batches[-1], size is None, metadata.as_dict(), args.format, path)
    differences = compare(load(path, args.format), graph, batches)
    for difference in differences:
        print(difference.text)
    faults = [
        f"{difference.text}: {difference.fault}" for difference in differences if difference.fault
    ]
    if faults:
        raise ExportError(
            f"{args.output}: not written; it does not give what the model gives: "
            f"{'; '.join(faults)}"
        )


def _follow_up(args: argparse.Namespace, predictor: Predictor, path: Path) -> None:
    """Quantise the file and measure the AP, as the arguments ask for."""
    detectors: dict[str, Any] = {"PyTorch": predictor}
    if args.int8 or args.evaluate:
        # They need packages that the other formats do without.
        from d2ext.export.onnx_inference import OnnxDetector

        detectors["ONNX"] = OnnxDetector(path)
    if args.int8:
        from d2ext.export.int8 import quantize

        files = args.calibrate[:: -(-len(args.calibrate) // CALIBRATION)]
        images = (read_image(str(file), format="RGB") for file in files)
        quantize(path, path, (detectors["ONNX"].prepare(image)[0] for image in images))
        detectors["INT8"] = OnnxDetector(path)
        print(f"8 bits: ranges from {len(files)} images")
    if args.evaluate:
        check_classes(predictor.names, dataset_stats([DATASET]).class_names)
        for name, detector in detectors.items():
            found = average_precision(detector, DATASET)
            print(f"{name}: AP {found['AP']:.2f}, AP50 {found['AP50']:.2f}")


def _size(args: argparse.Namespace, cfg: CfgNode, graph: ExportedModule) -> tuple[int, int] | None:
    """Height and width of the input; None: free."""
    if args.size:
        size = tuple(args.size)
    elif cfg.INPUT.get("RESIZE", "shortest_edge") != "shortest_edge":
        size = tuple(reversed(cfg.INPUT.SIZE))
    else:
        return None
    stride = graph.exporter.stride
    if any(side < stride or side % stride for side in size):
        raise ConfigError(
            f"--size {size[0]} {size[1]}: the model takes multiples of {stride} pixels."
        )
    return size[0], size[1]
