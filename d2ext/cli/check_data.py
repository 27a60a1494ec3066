"""The check command: report the issues of data sets and write a fixed copy."""

import argparse
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from d2ext.cli.parser import CommandParser
from d2ext.errors import OutputError
from d2ext.files import check_new_folder, check_output_file

if TYPE_CHECKING:
    from d2ext.data.checks.input_size import InputSize
    from d2ext.data.formats import DatasetSplit

EXAMPLES = """\
examples:
  {check_data} my/data
  {check_data} my/train.json:my/images --val my/val.json:my/images
  {check_data} my/data --config-file configs/dyhead_swint.yaml --report issues.json
  {check_data} my/data --fix my/repaired

PATH is a file or folder in any format that --train takes. Exit status: 0 no issues but notes,
1 issues, 2 the data or the arguments are unusable.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Check data sets as the arguments say; return the exit status.

    Raises:
        UserError: the data or the config cannot be read at all, or an output cannot be written.
    """
    parser = argument_parser()
    args = parser.parse_args(argv)
    if args.opts and not args.config_file:
        parser.error("KEY VALUE pairs need --config-file")
    if args.report:
        check_output_file(args.report, "--report")
    if args.fix:
        check_new_folder(args.fix, "--fix")
    # Imported once the arguments are known: --help and typing errors need no PyTorch.
    from d2ext.data.checks.check import check_splits
    from d2ext.data.checks.fixed_copy import check_place, write_fixed_copy
    from d2ext.data.containment import refuse_outside
    from d2ext.data.dataset_paths import load_named_splits, parse_dataset_flag

    sources = load_named_splits(args.path, args.val)
    model = _model(args, next(iter(sources.values()))) if args.config_file else None
    if args.fix and not args.allow_outside:
        flags = [parse_dataset_flag(text) for text in (args.path, *args.val)]
        refuse_outside(sources.values(), [place for flag in flags for place in flag])
    if args.fix:
        check_place(sources, args.fix)
    if args.report:
        _refuse_data(args.report, sources.values())
    report = check_splits(sources, model=model, progress=sys.stderr.isatty() or args.progress)
    print(report.text(args.show))
    if args.fix:
        for line in write_fixed_copy(sources, report, args.fix):
            print(line)
    if args.report:  # after the copy, in whose folder it may be
        report.write(args.report)
        print(f"written: {args.report}")
    return 0 if report.clean else 1


def argument_parser() -> CommandParser:
    """Build the argument parser of tools/check_data.py."""
    description = "Find issues of a data set before it is trained on."
    parser = CommandParser("check_data", description, EXAMPLES)
    parser.add_argument("path", metavar="PATH", help="training data, or a folder of splits")
    parser.add_argument(
        "--val",
        action="append",
        default=[],
        metavar="PATH",
        help="evaluation data, compared with the training data; may be repeated",
    )
    parser.add_argument("--config-file", help="config of a model; finds objects it cannot learn")
    parser.add_argument("--report", type=Path, metavar="JSON", help="write all issues to this file")
    parser.add_argument(
        "--fix", type=Path, metavar="OUT", help="write a fixed copy, as COCO JSON with images"
    )
    parser.add_argument(
        "--allow-outside",
        action="store_true",
        help="let --fix take images from outside the data set's folders, links followed",
    )
    parser.add_argument("--show", type=int, default=5, help="examples per kind (default: 5)")
    parser.add_argument(
        "--progress", action="store_true", help="show the progress bar even without a terminal"
    )
    parser.add_opts()
    return parser


def _refuse_data(report: Path, sources: "Iterable[DatasetSplit]") -> None:
    """Refuse to replace a file of the data by the report."""
    for source in sources:
        files = {str(source.path), *(image["annotated_in"] for image in source.images)}
        if os.path.realpath(report) in map(os.path.realpath, filter(None, files)):
            raise OutputError(f"{report}: a file of the data; --report names another.")


def _model(args: argparse.Namespace, source: "DatasetSplit") -> "InputSize":
    from d2ext.config import load_config
    from d2ext.engine.devices import choose_device, native_bfloat16
    from d2ext.engine.input_size import input_size
    from d2ext.engine.machine import Machine

    cfg = load_config(args.config_file, args.opts)
    device = choose_device(cfg.MODEL.DEVICE, 1)[0].partition(":")[0]
    machine = Machine(device, 1, os.cpu_count() or 1, native_bfloat16(device))
    return input_size(cfg, source, machine)
