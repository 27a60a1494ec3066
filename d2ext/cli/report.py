"""The command that writes an HTML page about a training run."""

from collections.abc import Sequence
from pathlib import Path

from d2ext.cli.parser import CommandParser

EXAMPLES = """\
example:
  {report} output
  {report} output --out report.html

The page is one file that opens without a network: curves, AP per class and size, precision-recall
curves, the confusion matrix, pictures of the most confident mistakes, speed, memory, the command
and the versions.
"""


def main(argv: Sequence[str] | None = None) -> None:
    """Write the page of a run.

    Raises:
        UserError: the folder holds no run, its data are missing, or the page cannot be written.
    """
    args = argument_parser().parse_args(argv)
    # Imported once the arguments are known: --help and typing errors need no PyTorch.
    from d2ext.pages.run_page import write_run_page

    path = args.out or args.folder / "report.html"
    write_run_page(args.folder, path)
    print(f"written: {path}")


def argument_parser() -> CommandParser:
    """Build the argument parser of tools/report.py."""
    parser = CommandParser("report", "Write a page about a run.", EXAMPLES)
    parser.add_argument("folder", type=Path, help="OUTPUT_DIR of a training or evaluation")
    parser.add_argument("--out", type=Path, help="the page (default: report.html in the folder)")
    return parser
