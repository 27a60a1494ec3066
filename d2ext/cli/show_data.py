"""The command that writes an HTML page about a data set."""

from collections.abc import Sequence
from pathlib import Path

from d2ext.cli.parser import CommandParser
from d2ext.files import check_output_file

EXAMPLES = """\
examples:
  {show_data} my/data --out page/
  {show_data} my/train.json:my/images --out page/

The page, page/index.html, opens without a network: counts, sizes, shapes and positions of the
objects, examples of every class, and every issue that {check_data} finds.
"""


def main(argv: Sequence[str] | None = None) -> None:
    """Write the page of a data set.

    Raises:
        UserError: the data cannot be read, or the page cannot be written.
    """
    args = argument_parser().parse_args(argv)
    # Imported once the arguments are known: --help and typing errors need no PyTorch.
    from d2ext.data.dataset_paths import load_named_splits
    from d2ext.pages.data_page import NAME, write_data_page

    check_output_file(args.out / NAME, "--out")
    sources = load_named_splits(args.path, [])
    for source in sources.values():
        print(source.describe())
    write_data_page(sources, args.out / NAME, progress=True)
    print(f"written: {args.out / NAME}")


def argument_parser() -> CommandParser:
    """Build the argument parser of tools/show_data.py."""
    parser = CommandParser("show_data", "Write a page about a data set.", EXAMPLES)
    parser.add_argument("path", help="a data set of any known format")
    parser.add_argument("--out", type=Path, default=Path("page"), help="folder of the page")
    return parser
