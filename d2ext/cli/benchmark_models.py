"""The benchmark command: AP and latency of models and exported files on the user's data."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from d2ext.cli.parser import CommandParser, count, device_name
from d2ext.files import check_output_file, replacing

EXAMPLES = """\
examples:
  {benchmark_models} output/model_best.pth model.onnx model.xml --data my/data
  {benchmark_models} a/model_best.pth b/model_best.pth --data val.json:images --json speed.json

Latency is that of single images, from pixels to detections, resizing and NMS included, reading the
file not. The models take turns at each image, so that other load on the machine slows all alike.
Exported files run on the CPU: *.onnx by onnxruntime, *.xml by OpenVINO, *.pt and *.pt2 by PyTorch.
"""


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print as the arguments say.

    Raises:
        UserError: data, weights or a file are missing or wrong, or their classes differ; or the
            numbers cannot be written.
    """
    args = argument_parser().parse_args(argv)
    if args.json:
        check_output_file(Path(args.json), "--json")
    # Imported once the arguments are known: --help and typing errors need no PyTorch.
    from d2ext.inference.benchmark import as_table, benchmark

    found = benchmark(
        args.models,
        args.data,
        config=args.config_file,
        device=args.device or "",
        threads=args.threads,
    )
    print(as_table(found))
    if args.json:
        with replacing(Path(args.json)) as temporary:
            text = json.dumps([asdict(each) for each in found], indent=1, ensure_ascii=False)
            temporary.write_text(text, encoding="utf-8")


def argument_parser() -> CommandParser:
    """Build the argument parser of tools/benchmark_models.py."""
    description = "Print AP and latency of models and of files exported from them."
    parser = CommandParser("benchmark_models", description, EXAMPLES)
    add = parser.add_argument
    add("models", nargs="+", metavar="MODEL_OR_FILE", help="weights, and files of the export")
    add("--data", required=True, metavar="DATA", help="a data set, as for --val of the training")
    add("--config-file", default="", metavar="FILE", help="config (default: that of the weights)")
    add("--device", type=device_name, help="of the weights: cuda, cuda:1, cpu, ...")
    add("--threads", type=count, default=0, help="CPU threads (default: as each library chooses)")
    add("--json", default="", metavar="FILE", help="also write the numbers to a file")
    return parser
