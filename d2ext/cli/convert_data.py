"""The command that converts a data set to another format."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from d2ext.cli.parser import CommandParser
from d2ext.files import check_new_folder

FORMATS = ("coco", "voc", "yolo")  # the keys of `WRITERS`

EXAMPLES = """\
examples:
  {convert_data} my/voc --to coco my/coco
  {convert_data} my/train.json:my/images --to yolo my/yolo --images copy

What the target format cannot represent is counted and listed. SOURCE is not changed; OUT must be
new or empty, and appears when it is complete.
"""


def main(argv: Sequence[str] | None = None) -> None:
    """Convert a data set as the arguments say.

    Raises:
        UserError: the source cannot be read or does not suit the format, or OUT is not empty.
    """
    args = argument_parser().parse_args(argv)
    check_new_folder(Path(args.out), "OUT")
    # Imported once the arguments are known: --help and typing errors need no PyTorch.
    from d2ext.data.containment import refuse_outside
    from d2ext.data.conversion.convert import WRITERS, read_plans, write_folder
    from d2ext.data.conversion.plan import Losses
    from d2ext.data.dataset_paths import parse_dataset_flag

    path, images = parse_dataset_flag(args.source)
    losses: Losses = Counter()
    plans = read_plans(path, images, losses)
    if not args.allow_outside:
        refuse_outside([each.dataset for each in plans], [path, images])
    for each in plans:
        print(each.dataset.describe())
        for note in each.dataset.notes:
            print(f"  {note}")
    write_folder(Path(args.out), plans, WRITERS[args.to], losses, link=args.images == "link")
    for what, count in sorted(losses.items()):
        if count:
            print(f"  {args.to} does not hold: {count} {what}")
    print(f"written: {args.out}")


def argument_parser() -> CommandParser:
    """Build the argument parser of tools/convert_data.py."""
    description = "Convert a data set of any known format to COCO, YOLO or Pascal VOC."
    parser = CommandParser("convert_data", description, EXAMPLES)
    parser.add_argument("source", metavar="SOURCE", help="PATH or ANNOTATIONS:IMAGES")
    parser.add_argument("--to", required=True, choices=FORMATS)
    parser.add_argument("out", metavar="OUT", help="a new or empty folder")
    parser.add_argument(
        "--allow-outside",
        action="store_true",
        help="also take images from outside the data set's folders, links followed",
    )
    parser.add_argument(
        "--images",
        choices=("link", "copy"),
        default="link",
        help="hard links take no space, and become copies on another disk (default: link)",
    )
    return parser
