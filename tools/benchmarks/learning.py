"""Box AP after a few CPU minutes of training, compared with other packages on the same data.

Each way to learn is a process of one thread that writes the detections of the validation images in
COCO's format; one evaluator of pycocotools scores them all. The CPU seconds that are printed are
those of the whole process: start, data, training and prediction.
"""

import argparse
import contextlib
import io
import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from benchmarks.providers import ROOT
from benchmarks.registry import register_benchmark

HERE = Path(__file__).parent
# Images per CPU minute, on which the length of a training is chosen, as measured on a core of a
# Xeon with AMX. torchvision's models watch the clock themselves.
PACE = {"d2ext": 350.0, "ultralytics": 430.0, "libreyolo": 110.0, "mayaku": 40.0}


@dataclass(frozen=True)
class Problem:
    """What each way to learn gets.

    Args:
        train: "ANNOTATIONS.json:IMAGES", COCO's format.
        val: the same, for evaluation.
        minutes: CPU minutes of the whole process.
        pace: images per CPU minute, by way.
        python: the interpreter of the environment that has a way's package, by way.
        folder: for everything that is written.
    """

    train: str
    val: str
    minutes: float
    pace: dict[str, float]
    python: dict[str, str]
    folder: Path

    def epochs(self, way: str) -> int:
        """Return the epochs that fit into the minutes at the pace of a way."""
        count = len(json.loads(Path(self.train.rpartition(":")[0]).read_bytes())["images"])
        return max(1, round(self.minutes * self.pace[way] / count))


def d2ext_command(problem: Problem) -> tuple[list[str], str]:
    """Return the command of d2ext's own choice of a recipe, and its file of detections."""
    command = [sys.executable, str(ROOT / "tools" / "train_net.py"), "--num-gpus", "0"]
    command += ["--train", problem.train, "--val", problem.val, "OUTPUT_DIR", "d2ext"]
    command += ["SOLVER.MAX_EPOCHS", str(problem.epochs("d2ext")), "TEST.EVAL_PERIOD", "0"]
    return command, "d2ext/inference/*/coco_instances_results.json"


def torchvision_command(model: str) -> Callable[[Problem], tuple[list[str], str]]:
    """Return a function that makes the command of a detector of torchvision."""

    def command(problem: Problem) -> tuple[list[str], str]:
        script = str(HERE / "learning_torchvision.py")
        words = [model, problem.train, problem.val, str(problem.minutes), f"{model}.json"]
        return [sys.executable, script, *words], f"{model}.json"

    return command


def package_command(way: str, script: str) -> Callable[[Problem], tuple[list[str], str]]:
    """Return a function that makes the command of a package, which its own environment runs.

    Args:
        script: file and first arguments of the script that trains it.
    """

    def command(problem: Problem) -> tuple[list[str], str]:
        file, *first = script.split()
        words = [*first, problem.train, problem.val, str(problem.epochs(way)), f"{way}.json"]
        return [problem.python[way], str(HERE / file), *words], f"{way}.json"

    return command


WAYS: dict[str, Callable[[Problem], tuple[list[str], str]]] = {
    "d2ext": d2ext_command,
    "fcos": torchvision_command("fcos_resnet50_fpn"),
    "retinanet": torchvision_command("retinanet_resnet50_fpn"),
    "ssdlite": torchvision_command("ssdlite320_mobilenet_v3_large"),
    "fasterrcnn": torchvision_command("fasterrcnn_mobilenet_v3_large_320_fpn"),
    "ultralytics": package_command("ultralytics", "learning_yolo.py ultralytics"),
    "libreyolo": package_command("libreyolo", "learning_yolo.py libreyolo"),
    "mayaku": package_command("mayaku", "learning_mayaku.py"),
}
PACKAGES = ("ultralytics", "libreyolo", "mayaku")


def learn(way: str, problem: Problem) -> tuple[float, list[dict[str, Any]]]:
    """Run one way to learn.

    Returns:
        CPU seconds of its process, and the detections.
    Raises:
        subprocess.CalledProcessError: the process fails; its output is in "<way>.log".
    """
    command, results = WAYS[way](problem)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    before = _child_seconds()
    with (problem.folder / f"{way}.log").open("w", encoding="utf-8") as log:
        subprocess.run(
            command, cwd=problem.folder, env=environment, check=True, stdout=log, stderr=log
        )
    (file,) = problem.folder.glob(results)
    return _child_seconds() - before, json.loads(file.read_bytes())


def score(val: str, detections: list[dict[str, Any]]) -> tuple[float, float]:
    """Return AP and AP50 of the boxes, in percent."""
    if not detections:
        return 0.0, 0.0
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(val.rpartition(":")[0])
        evaluator = COCOeval(truth, truth.loadRes(detections), "bbox")
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return 100 * evaluator.stats[0], 100 * evaluator.stats[1]


def _child_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _run(args: argparse.Namespace) -> None:
    folder = Path(args.folder or tempfile.mkdtemp(prefix="learning"))
    folder.mkdir(parents=True, exist_ok=True)
    pace = PACE | {name: float(value) for name, value in (p.split("=", 1) for p in args.pace)}
    python = dict(pair.split("=", 1) for pair in args.python)
    print(f"box AP after {args.minutes:g} CPU minutes on one thread, files in {folder}")
    data = (_absolute(args.train), _absolute(args.val))
    problem = Problem(*data, args.minutes, pace, python, folder.absolute())
    for way in _ways(args.ways, python):
        try:
            seconds, detections = learn(way, problem)
        except (OSError, subprocess.CalledProcessError) as error:
            print(f"  {way:24} failed, see {way}.log: {error}", flush=True)
            continue
        ap, ap50 = score(problem.val, detections)
        print(f"  {way:24} AP {ap:5.1f}  AP50 {ap50:5.1f} {seconds:9.0f} CPU seconds", flush=True)


def _ways(given: list[str] | None, python: dict[str, str]) -> list[str]:
    """Return the ways to run: those given, or all that need no package that `python` lacks."""
    absent = [way for way in PACKAGES if way not in python]
    if given is None:
        return [way for way in WAYS if way not in absent]
    for way in absent:
        if way in given:
            sys.exit(f"--ways {way}: --python {way}=PYTHON names an environment that has it.")
    return given


def _absolute(data: str) -> str:
    return ":".join(str(Path(part).absolute()) for part in data.rsplit(":", 1))


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    form = "ANNOTATIONS.json:IMAGES"
    parser.add_argument("--train", required=True, metavar=form)
    parser.add_argument("--val", required=True, metavar=form)
    parser.add_argument("--minutes", type=float, default=2.0, help="CPU minutes of each")
    parser.add_argument(
        "--ways", nargs="+", choices=WAYS, help="default: all but packages that --python lacks"
    )
    parser.add_argument(
        "--pace", nargs="*", default=[], metavar="WAY=IMAGES", help="per CPU minute of training"
    )
    parser.add_argument(
        "--python",
        nargs="*",
        default=[],
        metavar="WAY=PYTHON",
        help=f"interpreters of environments that have {', '.join(PACKAGES)}",
    )
    parser.add_argument("--folder", help="to keep what is written; else a temporary one")


register_benchmark("learning", "AP after CPU minutes of training", _add_arguments, _run)
