#!/usr/bin/env python
r"""Compare the speed and memory of d2ext with what people use today.

    python tools/benchmark.py ops --threads 2 [deform_conv2d ...]
    python tools/benchmark.py models --threads 2
    python tools/benchmark.py data --folder FOLDER_TO_KEEP_MADE_UP_DATA
    python tools/benchmark.py data_loading --official FOLDER_OF_DETECTRON2
    python tools/benchmark.py training mask_rcnn --official FOLDER_OF_DETECTRON2 --threads 1
    python tools/benchmark.py evaluation
    python tools/benchmark.py rcnn --threads 2
    python tools/benchmark.py learning --train TRAIN.json:IMAGES --val VAL.json:IMAGES --minutes 2
    python tools/benchmark.py yolo_fastest --official FOLDER_OF_YOLO_FASTESTV2 \
        --weights MODEL.pth --photos PHOTO.jpg...
    python tools/benchmark.py count [configs/coco/fcos_r50_fpn_1x.yaml ...]

Each problem is a title line, followed by one line per way to solve it. What the columns are:
  ops, models   median time of a forward pass and of forward and backward pass, how many times
                faster that is than the peer, and the peak memory beyond the inputs (on CPUs
                only under Linux); "scratch" is the part that is not output or gradients
  data          seconds and CPU seconds to the first batch, peak memory of all processes, private
                memory per loader worker, and how often the JSON is parsed
  data_loading  images per second of one process
  training      seconds per step, and how far the losses of all steps differ
  evaluation    seconds, and how far the metrics differ
  learning      box AP after some CPU minutes, and the CPU seconds of the whole process
  rcnn          CPU seconds, and how many times less than torchvision
  yolo_fastest  milliseconds from an image file to its boxes
  count         parameters and GFLOPs

To add a benchmark, put one file into tools/benchmarks, see registry.py there.
"""

import argparse

from benchmarks.registry import load_benchmarks


def main() -> None:
    """Run the benchmark that the command line names."""
    args = argument_parser().parse_args()
    args.run(args)


def argument_parser() -> argparse.ArgumentParser:
    """Return the parser, with a sub-command per registered benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="BENCHMARK")
    for name, benchmark in load_benchmarks().items():
        command = commands.add_parser(name, help=benchmark.help, description=benchmark.help)
        benchmark.add_arguments(command)
        command.set_defaults(run=benchmark.run)
    return parser


if __name__ == "__main__":
    main()
