r"""The command that computes anchors for a data set.

    python -m d2ext.projects.yolo_fastest.compute_anchors --train my/train.json:my/images \
        --config-file projects/yolo_fastest/configs/yolo_fastest_v2.yaml

prints them as a config takes them, with the best possible recall: the share of the boxes that have
an anchor near enough to their size to be learned.
"""

import argparse
from collections.abc import Sequence

import d2ext.cli.entry_points  # noqa: F401  (silences what users cannot help)
from d2ext.config import load_config
from d2ext.data import dataset_stats, register_datasets
from d2ext.data.dataset_paths import dataset_flag_spec
from d2ext.errors import DataError, exit_on_user_error
from d2ext.projects.yolo_fastest.anchors import anchors_for


def main(argv: Sequence[str] | None = None) -> None:
    """Print the anchors of a data set.

    Raises:
        UserError: config or data are missing or wrong.
    """
    args = argument_parser().parse_args(argv)
    cfg = load_config(args.config_file, args.opts)
    cfg.DATASETS.TRAIN = tuple(f"anchors_{number}" for number in range(len(args.train)))
    for name, flag in zip(cfg.DATASETS.TRAIN, args.train, strict=True):
        cfg.DATASETS.REGISTER.append(dataset_flag_spec(flag, "train")[0].as_mapping(name))
    register_datasets(cfg)
    facts = dataset_stats(cfg.DATASETS.TRAIN)
    if not len(facts.object_sizes):
        raise DataError(f"{', '.join(args.train)}: no boxes to compute anchors from.")
    anchors = anchors_for(cfg, facts)
    print(f"anchors {anchors.reason}")
    print(f"MODEL.YOLO_FASTEST.ANCHORS: {anchors.value}")


def argument_parser() -> argparse.ArgumentParser:
    """Build the argument parser of the command."""
    parser = argparse.ArgumentParser(description="Compute the anchors of a data set by k-means.")
    parser.add_argument("--config-file", required=True, help="input size, levels, anchors a level")
    parser.add_argument(
        "--train",
        action="append",
        required=True,
        metavar="PATH",
        help="a data set, or ANNOTATIONS:IMAGES, as tools/train_net.py takes it; may be repeated",
    )
    parser.add_argument("opts", nargs="*", metavar="KEY VALUE", help="config values")
    return parser


if __name__ == "__main__":
    exit_on_user_error(main)
