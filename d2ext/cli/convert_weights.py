"""The conversion command: convert a published checkpoint to d2ext's parameter names."""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from d2ext.cli.parser import CommandParser
from d2ext.errors import OutputError, WeightsError
from d2ext.files import check_output_file

if TYPE_CHECKING:
    from torch import Tensor

_SHOWN = 5

EXAMPLES = """\
examples:
  {convert_weights} swin_tiny_patch4_window7_224.pth --to swin_t.pth
  {convert_weights} https://example.org/dyhead.pth --sha256 0123... --to dyhead.pth \\
      --config-file configs/coco/dyhead_swint_atss_fpn_2x_ms.yaml

MODEL.WEIGHTS takes the same files as they are; it takes a checksum behind them: FILE#sha256=0123...
Layouts of Swin-Transformer, DynamicHead, AdelaiDet FCOS, Detectron, maskrcnn-benchmark, torchvision
and timm are recognised, and those of the projects; the error for an unknown one lists all.
"""


def main(argv: Sequence[str] | None = None) -> None:
    """Convert a checkpoint as the arguments say.

    Raises:
        UserError: the source cannot be downloaded or read, its checksum differs or its layout is
            unknown, or the output cannot be written.
    """
    parser = argument_parser()
    args = parser.parse_args(argv)
    if args.opts and not args.config_file:
        parser.error("KEY VALUE pairs need --config-file")
    _check_output(args.source, args.to)
    # Imported once the arguments are known: --help and typing errors need no PyTorch.
    from d2ext.checkpoint.file_io import read_checkpoint, write_checkpoint
    from d2ext.checkpoint.state_dict import extract_state_dict
    from d2ext.checkpoint.uri import SHA256, WeightsURI, local_file
    from d2ext.config.projects import import_projects

    import_projects()  # their layouts count without a config that names them, too
    text = f"{args.source}{SHA256}{args.sha256}" if args.sha256 else args.source
    weights = extract_state_dict(read_checkpoint(local_file(text)))
    model = _model_weights(args.config_file, args.opts) if args.config_file else None
    converted, summary = _convert(WeightsURI.parse(text).path, weights, model)
    write_checkpoint(args.to, {"model": converted})
    print(f"{args.source}: {summary}\nwritten: {args.to}")


def argument_parser() -> CommandParser:
    """Build the argument parser of tools/convert_weights.py."""
    description = "Convert a published checkpoint to the names of d2ext."
    parser = CommandParser("convert_weights", description, EXAMPLES)
    parser.add_argument(
        "source",
        metavar="SOURCE",
        help="file, URL or address (catalog://, detectron2://) of a .pth, .pkl or .safetensors",
    )
    parser.add_argument("--to", required=True, type=_pth, metavar="OUT.pth", help="file to write")
    parser.add_argument("--sha256", help="checksum that SOURCE must have, 64 hexadecimal digits")
    parser.add_argument(
        "--config-file",
        help="a config whose model the weights are for: tensors get the names that it has, and "
        "parameters that remain at their initial values are listed",
    )
    parser.add_opts()
    return parser


def _layout_names() -> str:
    from d2ext.checkpoint.layouts import registered_layouts

    return ", ".join(layout.name for layout in registered_layouts())


def _pth(text: str) -> Path:
    path = Path(text)
    if path.suffix not in (".pth", ".pt"):
        raise argparse.ArgumentTypeError(f"{text}: the file to write ends in .pth")
    return path


def _check_output(source: str, output: Path) -> None:
    check_output_file(output, "--to")
    if os.path.realpath(source) == os.path.realpath(output):
        raise OutputError(f"{output}: the source itself; --to names another file.")


def _model_weights(config_file: str, options: Sequence[str]) -> "dict[str, Tensor]":
    from d2ext.config import load_config
    from d2ext.engine.dataless import build_model_without_data

    return build_model_without_data(load_config(config_file, options)).state_dict()


def _convert(
    path: str, weights: "dict[str, Tensor]", model: "dict[str, Tensor] | None"
) -> "tuple[dict[str, Tensor], str]":
    """Return the tensors by our names, and a summary of the conversion."""
    from d2ext.checkpoint.conversion import convert
    from d2ext.checkpoint.key_matching import refuse_foreign

    conversion = convert(weights, model)
    if model is not None:
        found = conversion.match(model)
        refuse_foreign(path, found)
        return conversion.weights, found.summary()
    if not conversion.known:
        first = ", ".join(list(weights)[:_SHOWN]) or "none"
        raise WeightsError(
            f"{path}: unknown layout; its first names: {first}. Known layouts: "
            f"{_layout_names()}. A backbone of timm needs --config-file."
        )
    left_out = f", {len(conversion.unused)} unused" if conversion.unused else ""
    return conversion.weights, f"layout {conversion.layout.name}: {len(weights)} tensors{left_out}"
