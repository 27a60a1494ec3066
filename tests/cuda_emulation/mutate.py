"""Proof that the emulator sees broken kernels: each mutation has to fail the operator's tests.

`python -m tests.cuda_emulation.mutate [NUMBER ...]` breaks the kernels in one way at a time and
runs the tests on the checked build; it fails if the tests of one pass.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.cuda_emulation.build import CSRC


class Mutation(NamedTuple):
    """One way to break a kernel: a text in a source, which of its occurrences, and the new text."""

    name: str
    file: str
    old: str
    new: str
    occurrence: int = 0
    tested_by: str = ""  # the operator of a file that several share

    @property
    def operator(self) -> str:
        return self.tested_by or self.file.split("/")[0]

    def apply(self, csrc: Path) -> None:
        """Edit the source.

        Raises:
            ValueError: the text is not there, so that the mutation has to follow the kernels.
        """
        path = csrc / self.file
        parts = path.read_text().split(self.old)
        if len(parts) < self.occurrence + 2:
            raise ValueError(f"{self.file} has no {self.old!r} number {self.occurrence}")
        head, tail = parts[: self.occurrence + 1], parts[self.occurrence + 1 :]
        path.write_text(self.old.join(head) + self.new + self.old.join(tail))


BLOCK, WARP = "__syncthreads();", "__syncwarp();"
ROI, CONV, CONV_HOST = "roi_align/cuda.cu", "deform_conv2d/kernels.h", "deform_conv2d/cuda.cu"
ATTENTION, NMS, IOU = "ms_deform_attn/cuda.cu", "nms_rotated/cuda.cu", "box_iou_rotated/cuda.cu"
FOCAL = "sigmoid_focal_loss/cuda.cu"
ROWS = "for (int turn = 0; turn < problem.samples; turn += kTeam) {"
MUTATIONS = [
    Mutation("no barrier after bins are written", ROI, BLOCK, ""),
    Mutation("no barrier before bins are overwritten", ROI, BLOCK, "", 1),
    Mutation("no warp barrier after samples are found", ROI, WARP, ""),
    Mutation("no warp barrier before samples are overwritten", ROI, WARP, "", 1),
    Mutation("a gradient without an atomic", ROI, "atomicAdd(image + at, ", "*(image + at) += ("),
    Mutation(
        "a sample of the bin before", ROI, "first_bin + own / each", "first_bin + own / (each + 1)"
    ),
    Mutation("no barrier after samples are found", CONV, BLOCK, ""),
    Mutation("no barrier before samples are overwritten", CONV, BLOCK, "", 1),
    Mutation(
        "lanes leave before the sum",
        CONV,
        "i < kChunk; i += kThreads / lanes",
        "i < count; i += kThreads / lanes",
    ),
    *(
        Mutation(
            "a gradient without an atomic",
            "cuda.h",
            "atomicAdd(sums + place, terms[i]);",
            "sums[place] += terms[i];",
            tested_by=operator,
        )
        for operator in ("deform_conv2d", "ms_deform_attn")
    ),
    *(
        Mutation(
            "two lanes add to one channel",
            "cuda.h",
            "* lanes + lane)",
            "* lanes + lane / 2)",
            tested_by=operator,
        )
        for operator in ("deform_conv2d", "ms_deform_attn")
    ),
    Mutation("a term of another group", CONV, "place < in_group", "place < channels.count"),
    Mutation("packs of unaligned pixels", CONV_HOST, "address % kPackBytes == 0 &&", ""),
    Mutation(
        "a pixel outside is read",
        "deform_conv2d/geometry.h",
        "pixel_y < height",
        "pixel_y <= height",
    ),
    Mutation(
        "teams without a query leave", ATTENTION, ROWS, "if (!place.active) continue; " + ROWS
    ),
    Mutation(
        "a corner outside is read",
        ATTENTION,
        "top + 1 < found.level.height",
        "top + 1 <= found.level.height",
    ),
    Mutation(
        "the wrong half of a sum",
        ATTENTION,
        "upper ? values[i] : values[i + half]",
        "upper ? values[i + half] : values[i]",
    ),
    Mutation("packs of unaligned values", ATTENTION, "% sizeof(Pack<T, N>) == 0", ">= 0"),
    Mutation("a term beyond the channels", ATTENTION, "if (place < count) some", "some"),
    Mutation("only the levels in the arguments", ATTENTION, "more_levels ? ", "false ? "),
    Mutation("no barrier after boxes are read", NMS, BLOCK, ""),
    Mutation("no barrier before the decision", NMS, BLOCK, "", 1),
    Mutation("no barrier after the decision", NMS, BLOCK, "", 2),
    Mutation("no barrier before the shares are joined", NMS, BLOCK, "", 3),
    Mutation("no barrier before the next word", NMS, BLOCK, "", 4),
    Mutation("no barrier before the shares of rows are joined", NMS, BLOCK, "", 5),
    Mutation(
        "a drop without an atomic", NMS, "atomicOr(dropped + other, gone)", "dropped[other] |= gone"
    ),
    Mutation("boxes that were dropped drop others", NMS, "~dropped[start / kBits]", "~Word(0)"),
    Mutation(
        "the rest of a chunk's words is left out",
        NMS,
        "first < end_word; first += kColumns",
        "first < word + 2; first += kColumns",
    ),
    Mutation("no barrier before the block's sum", FOCAL, BLOCK, ""),
    Mutation("a row too many", IOU, "row < rows;", "row <= rows;"),
    Mutation("half of a warp sums", IOU, "column += kWarp", "column += kWarp / 2"),
    Mutation("a launch that is not checked", FOCAL, "check_launch();", ""),
    Mutation(
        "a launch on another device",
        IOU,
        "const OnDevice device(boxes1);",
        "struct { cudaStream_t is; cudaStream_t stream() const { return is; } } device{"
        "OnDevice(boxes1).stream()};",
    ),
]


def first_failure(mutation: Mutation) -> str | None:
    """Run the operator's tests on the broken kernels, and return what failed, or None."""
    with tempfile.TemporaryDirectory() as folder:
        csrc = Path(folder) / "csrc"
        shutil.copytree(CSRC, csrc)
        mutation.apply(csrc)
        tests = f"tests/ops/test_{mutation.operator}.py"
        options = [
            "--checked",
            f"--csrc={csrc}",
            f"--operator={mutation.operator}",
            "-xq",
            "--tb=short",
        ]
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-p",
            "tests.cuda_emulation.plugin",
            tests,
            *options,
        ]
        answer = subprocess.run(command, capture_output=True, text=True, env=os.environ)
    if answer.returncode == 0:
        return None
    if answer.returncode < 0:
        return f"the tests end with signal {-answer.returncode}"
    if answer.returncode != pytest.ExitCode.TESTS_FAILED:
        raise RuntimeError(f"the mutation does not compile, or there are no tests:{answer.stderr}")
    lines = [line.strip() for line in answer.stdout.splitlines()]
    wrong = [line for line in lines if line.startswith(("emulated CUDA", "FAILED", "E "))]
    detail = lines[lines.index(wrong[0]) + 1] if wrong and wrong[0].endswith(":") else ""
    return f"{wrong[0]} {detail}"


def main(numbers: list[int]) -> int:
    """Try the mutations of these numbers, all if there is none, and return the exit status."""
    tried = numbers or range(len(MUTATIONS))
    caught = 0
    for number in tried:
        mutation = MUTATIONS[number]
        failure = first_failure(mutation)
        caught += failure is not None
        print(f"{number} {mutation.operator}: {mutation.name}: {failure or 'NOT SEEN'}", flush=True)
    print(f"{caught} of {len(tried)} mutations were caught")
    return int(caught < len(tried))


if __name__ == "__main__":
    sys.exit(main([int(number) for number in sys.argv[1:]]))
