#!/usr/bin/env python
"""Read, check and convert damaged files; report signals, hangs and tracebacks.

Inputs are small samples of each format with bytes flipped, parts repeated or cut and numbers
replaced by extreme ones; archives, results files and checkpoints are treated likewise. Each goes
through the commands in a child process with a limit of time and memory. An error for the user
(`UserError`) is fine. The operators are called with damaged arguments, too. The same seed gives
the same inputs. CONTRIBUTING.md says how to build the kernels with a sanitizer.
"""

import argparse
import multiprocessing
import os
import random
import re
import resource
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # also where this is a script

from tools.fuzz_samples import OPERATORS, RESULTS, write_samples

SECONDS = 60  # an input may take; machines are busy
STARTING = 300  # seconds that a new process may take to import PyTorch, with sanitizers
MEMORY = 6 << 30  # bytes of addresses
NUMBERS = b"0 -1 1e9 -1e30 1e308 NaN Infinity 4294967296 1048576 0.5 99999999999999999999".split()
WORDS = b'"" null [] {} [[]] true ../../x /etc/hostname \x00 \xff\xfe \xed\xa0\x80'.split()
_NUMBER = re.compile(rb"-?\d+(?:\.\d+)?")


def main() -> int:
    """Run until the time is over; return 1 if anything else than an error for the user came."""
    args = argument_parser().parse_args()
    with tempfile.TemporaryDirectory() as folder:
        samples = write_samples(Path(folder))
        done, problems = fuzz(samples, Path(folder), args.seed, 60 * args.minutes)
    for name, count in sorted(done.items()):
        print(f"{name}: {count} inputs")
    print(f"{done.total()} inputs of seed {args.seed}, {len(problems)} problems")
    for problem in problems:
        print(problem)
    return 1 if problems else 0


def argument_parser() -> argparse.ArgumentParser:
    """Build the argument parser."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0, help="time to run (default: 1)")
    parser.add_argument("--seed", type=int, default=0, help="of the inputs (default: 0)")
    return parser


def fuzz(
    samples: dict[str, Path], folder: Path, seed: int, seconds: float
) -> tuple[Counter[str], list[str]]:
    """Run damaged copies of the samples in turn; return counts by sample and the problems."""
    chance, done, problems = random.Random(seed), Counter[str](), []
    end, worker = time.monotonic() + seconds, Worker()
    names = sorted(samples)
    while time.monotonic() < end:
        number = done.total()
        name = names[number % len(names)]
        case = folder / "case"
        shutil.copytree(samples[name], case)
        changed = damage(case, chance)
        if problem := worker.run(case):
            problems.append(f"{name}, input {number} ({changed}): {problem}")
        done[name] += 1
        shutil.rmtree(case)
        shutil.rmtree(folder / "out", ignore_errors=True)
    worker.close()
    return done, problems


def damage(folder: Path, chance: random.Random) -> str:
    """Change one file in one to four places; return its name."""
    path = chance.choice(sorted(file for file in folder.rglob("*") if file.is_file()))
    content = path.read_bytes()
    for _ in range(chance.randint(1, 4)):
        content = chance.choice(CHANGES)(content, chance)
    path.write_bytes(content)
    return str(path.relative_to(folder))


def _flip(content: bytes, chance: random.Random) -> bytes:
    place = chance.randrange(len(content) or 1)
    flipped = bytes([content[place] ^ (1 << chance.randrange(8))]) if content else b"x"
    return content[:place] + flipped + content[place + 1 :]


def _cut(content: bytes, chance: random.Random) -> bytes:
    first, last = sorted(chance.randrange(len(content) + 1) for _ in range(2))
    return content[:first] + content[last:]


def _repeat(content: bytes, chance: random.Random) -> bytes:
    first, last = sorted(chance.randrange(len(content) + 1) for _ in range(2))
    return content[:last] + content[first:last][:1000] * chance.randint(1, 50) + content[last:]


def _number(content: bytes, chance: random.Random) -> bytes:
    found = list(_NUMBER.finditer(content))
    if not found:
        return _word(content, chance)
    place = chance.choice(found)
    return content[: place.start()] + chance.choice(NUMBERS) + content[place.end() :]


def _word(content: bytes, chance: random.Random) -> bytes:
    place = chance.randrange(len(content) + 1)
    return content[:place] + chance.choice(WORDS) + content[place:]


Change = Callable[[bytes, random.Random], bytes]
CHANGES: tuple[Change, ...] = (_flip, _cut, _repeat, _number, _number, _word)


class Worker:
    """A child process that runs inputs; a new one after each that ended or hung."""

    def __init__(
        self,
        target: Callable[[Connection], None] | None = None,
        seconds: float = SECONDS,
        starting: float = STARTING,
    ) -> None:
        self.target, self.seconds, self.starting = target or serve, seconds, starting
        self.process: multiprocessing.process.BaseProcess | None = None

    def run(self, case: Path) -> str:
        """Run one input; return what went wrong, or ""."""
        limit = self.seconds
        if self.process is None:
            limit += self.starting
            context = multiprocessing.get_context("spawn")
            self.pipe, theirs = context.Pipe()
            self.process = context.Process(target=self.target, args=(theirs,), daemon=True)
            self.process.start()
            theirs.close()
        self.pipe.send(case)
        try:
            if self.pipe.poll(limit):
                return self.pipe.recv()
            problem = f"more than {limit} seconds"
        except (EOFError, OSError):
            self.process.join(10)
            problem = f"the process ended with {self.process.exitcode}"
        self.close()
        return problem

    def close(self) -> None:
        """End the child."""
        if self.process is not None:
            self.pipe.close()
            self.process.kill()
            self.process.join()
            self.process = None


def serve(pipe: Connection) -> None:
    """Run the inputs that come through the pipe, with little memory and without output."""
    if "libasan" not in os.environ.get("LD_PRELOAD", ""):  # it reserves terabytes of addresses
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with open("/dev/null", "w", encoding="utf-8") as nowhere:
        sys.stdout = sys.stderr = nowhere
        while True:
            try:
                case = pipe.recv()
            except EOFError:
                return
            pipe.send(run_commands(case))


def run_commands(case: Path) -> str:
    """Read, check and convert one input; return the traceback of an error that is no user's."""
    from d2ext.errors import UserError

    for command in commands(case):
        try:
            command()
        except UserError:
            continue
        except SystemExit:
            continue
        except BaseException:
            return traceback.format_exc()
    return ""


def commands(case: Path) -> list[Callable[[], object]]:
    """Return what is done with an input."""
    from d2ext.checkpoint.file_io import read_checkpoint, resumable
    from d2ext.cli import check_data, convert_data
    from d2ext.visualization.curves import read_metrics
    from tools.fuzz_operators import call_operators

    if checkpoints := sorted(case.glob("*.pth")):
        return [*(partial(read_checkpoint, path) for path in checkpoints), lambda: resumable(case)]
    if (seed := case / OPERATORS).exists():
        return [lambda: call_operators(seed.read_bytes())]
    if (case / RESULTS).exists():
        return [lambda: evaluate(case), lambda: read_metrics(case / "metrics.json")]
    data = str(next(case.glob("*.zip"), case))
    out = case.parent / "out"
    return [
        lambda: check_data.main([data, "--fix", str(out / "fixed")]),
        *(
            lambda kind=kind: convert_data.main([data, "--to", kind, str(out / kind)])  # type: ignore[misc]
            for kind in ("coco", "yolo", "voc")
        ),
    ]


def evaluate(case: Path) -> None:
    """Read a data set and a file of detections; measure and draw them as the pages do."""
    from d2ext.data.catalog import DatasetSpec, load_dataset, register_dataset
    from d2ext.data.detection_files import read_detections, sizes_by_id
    from d2ext.evaluation.precision_recall import measure
    from d2ext.pages.run_page import naming_results
    from detectron2.data import MetadataCatalog

    name, spec = f"fuzzed {time.monotonic_ns()}", DatasetSpec(str(case / "train.json"), str(case))
    register_dataset(name, spec)
    records = load_dataset(name, spec)
    with naming_results(case / RESULTS):
        found = read_detections(case / RESULTS, sizes_by_id(records))
        for task in ("bbox", "segm"):
            measure(MetadataCatalog.get(name).json_file, found, task)


if __name__ == "__main__":
    sys.exit(main())
