"""The export command: a config and weights in, a checked file out."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from d2ext.config import load_config
from d2ext.engine.inputs import find_images
from d2ext.engine.predict import Predictor
from d2ext.errors import ConfigError
from d2ext.export.check import ExportError, compare
from d2ext.export.exporter import exporter_for
from d2ext.export.formats import SUFFIXES, load, need_onnx, save
from d2ext.export.graph import WHERE, Graph, build_graph
from d2ext.export.metadata import describe
from d2ext.export.samples import sample_batches
from d2ext.files import replacing
from detectron2.config import CfgNode

EXAMPLES = """\
examples:
  an ONNX file for any number of images of any size, NMS in it:
    python tools/export.py --config-file configs/dyhead_swint.yaml --format onnx \\
        --output model.onnx MODEL.WEIGHTS output/model_final.pth
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
    graph = build_graph(
        exporter_for(predictor.model), args.nms, args.decode, for_onnx=args.format == "onnx"
    ).eval()
    with replacing(output) as temporary:
        _write(args, cfg, graph, predictor.names, temporary)
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
    output = Path(args.output)
    args.images = list(find_images(args.images, output, "--images")) if args.images else []
    suffix = SUFFIXES[args.format]
    if output.suffix.lower() != suffix or output.is_dir():
        raise ConfigError(
            f"--output {output}: a file of --format {args.format} is named *{suffix}."
        )
    return output


def _write(
    args: argparse.Namespace, cfg: CfgNode, graph: Graph, names: list[str], path: Path
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


def _size(args: argparse.Namespace, cfg: CfgNode, graph: Graph) -> tuple[int, int] | None:
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
