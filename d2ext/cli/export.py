"""The export command: write a trained model to a file, checked against the model."""

import argparse
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from d2ext.cli.parser import CommandParser
from d2ext.errors import ConfigError
from d2ext.files import replacing

if TYPE_CHECKING:
    import numpy as np

    from d2ext.exporters.run import ExportOptions
    from d2ext.inference.predictor import Predictor
    from detectron2.structures import Instances

DATASET = "export_evaluate"  # the registered name of --evaluate's data set
FORMATS = ("onnx", "openvino", "torchscript", "torch_export")  # the keys of `SUFFIXES`
WHERE = ("inside", "none")

EXAMPLES = """\
examples:
  an ONNX file for any number of images of any size, NMS in it:
    {export} --format onnx \\
        --output model.onnx --weights output/model_final.pth
  the same in 8 bits, and what that costs:
    {export} --format onnx --int8 \\
        --calibrate my/images --evaluate my/val.json:my/images \\
        --output model_int8.onnx --weights output/model_final.pth
  images of one size, boxes and scores of every cell:
    {export} --format torchscript \\
        --output model.pt --size 512 640 --nms none --weights output/model_final.pth
"""


def main(argv: Sequence[str] | None = None) -> None:
    """Export as the arguments say.

    Raises:
        UserError: config or weights are missing or wrong, or the file computes something else than
            the model. An existing file of that name is then left as it was.
    """
    args = argument_parser().parse_args(argv)
    # Imported once the arguments are known: --help and typing errors need no PyTorch.
    from d2ext.checkpoint import check_classes
    from d2ext.data import dataset_stats
    from d2ext.engine.config_choice import load_trained_config
    from d2ext.exporters.formats import file_size
    from d2ext.exporters.run import check_options, export_model, quantize_and_evaluate
    from d2ext.inference.predictor import Predictor

    options = _options(args)
    check_options(options)
    cfg = load_trained_config(args.config_file, [*args.opts, "MODEL.DEVICE", "cpu"])
    predictor = Predictor(cfg)
    if options.dataset:
        check_classes(predictor.names, dataset_stats([options.dataset]).class_names)
    detect = _detector(predictor)
    with ExitStack() as stack:
        if options.format == "openvino":  # writes the weights to a second file of the same stem
            stack.enter_context(replacing(options.output.with_suffix(".bin")))
        temporary = stack.enter_context(replacing(options.output))
        model, names, pixel_names = predictor.model, predictor.names, predictor.pixel_names
        for line in export_model(options, cfg, model, names, temporary, detect, pixel_names):
            print(line)
        for line in quantize_and_evaluate(options, detect, temporary):
            print(line)
    print(f"written: {options.output}, {file_size(options.output) / 1e6:.1f} MB")


def argument_parser() -> CommandParser:
    """Build the argument parser of tools/export.py."""
    description = "Write a trained model as a file that runs without d2ext."
    parser = CommandParser("export", description, EXAMPLES)
    parser.add_argument(
        "--config-file", default="", metavar="FILE", help="config (default: that of the weights)"
    )
    parser.add_config_flag("--weights", "MODEL.WEIGHTS", "weights of the model; needed")
    parser.add_argument("--format", required=True, choices=FORMATS)
    parser.add_argument("--output", required=True, help="file to write")
    _add_graph_flags(parser)
    _add_check_flags(parser)
    parser.add_opts()
    return parser


def _add_graph_flags(parser: CommandParser) -> None:
    """Add the flags of what the file computes, and of which images."""
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
        "--paste",
        choices=WHERE,
        default="none",
        help="where masks of boxes become masks of the image (default: none, they stay in the box)",
    )
    parser.add_argument(
        "--size",
        nargs=2,
        type=int,
        metavar=("HEIGHT", "WIDTH"),
        help="fix the size of images, in pixels (default: any, or INPUT.SIZE where images are "
        "stretched to that)",
    )


def _add_check_flags(parser: CommandParser) -> None:
    """Add the flags of precision, and of the images that the file is tried on."""
    parser.add_argument(
        "--images",
        nargs="+",
        default=[],
        help="images on which the file is compared with the model (default: generated ones)",
    )
    parser.add_argument(
        "--fp16", action="store_true", help="compute the network in 16-bit floats; ONNX only"
    )
    parser.add_argument(
        "--int8", action="store_true", help="quantise weights and activations to 8 bits; ONNX only"
    )
    parser.add_argument(
        "--calibrate",
        nargs="+",
        default=[],
        metavar="IMAGES",
        help="images or folders to calibrate the 8-bit ranges on; at most 100 are used",
    )
    parser.add_argument(
        "--evaluate",
        metavar="ANNOTATIONS:IMAGES",
        help="a data set, as for --val of the training: print the AP of model and file on it",
    )


def _options(args: argparse.Namespace) -> "ExportOptions":
    """Convert and check the arguments; register the data set of --evaluate."""
    from d2ext.data import dataset_stats
    from d2ext.data.catalog import register_dataset
    from d2ext.data.dataset_paths import dataset_flag_spec
    from d2ext.exporters.run import ExportOptions

    nms = args.nms or args.decode
    if args.paste == "inside" and nms == "none":
        raise ConfigError("--paste inside needs NMS inside.")
    if args.int8 and (args.format != "onnx" or not args.calibrate):
        raise ConfigError("--int8 needs --format onnx and --calibrate IMAGES.")
    if args.fp16 and (args.format != "onnx" or args.int8):
        raise ConfigError("--fp16 needs --format onnx, without --int8.")
    if args.evaluate and (args.format not in ("onnx", "openvino") or nms == "none"):
        raise ConfigError("--evaluate needs --format onnx or openvino, with NMS inside.")
    if args.evaluate:
        register_dataset(DATASET, dataset_flag_spec(args.evaluate, "val")[0])
        dataset_stats([DATASET])  # fails now, not after minutes of exporting
    output = Path(args.output)
    return ExportOptions(
        format=args.format,
        output=output,
        decode=args.decode,
        nms=nms,
        paste=args.paste,
        size=tuple(args.size) if args.size else None,
        images=_found(args.images, output, "--images"),
        calibration=_found(args.calibrate, output, "--calibrate") if args.int8 else [],
        dataset=DATASET if args.evaluate else "",
        fp16=args.fp16,
    )


def _found(inputs: Sequence[str], output: Path, flag: str) -> list[Path]:
    from d2ext.inference.inputs import find_images

    return list(find_images(inputs, output, flag)) if inputs else []


def _detector(predictor: "Predictor") -> "Callable[[np.ndarray], Instances]":
    return lambda image: predictor(image)["instances"].to("cpu")
