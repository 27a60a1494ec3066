"""The bundled runtime's rotated functions reach d2ext's operators, each in a child process."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

USE = """
import d2ext
import torch
from detectron2.layers import batched_nms_rotated, nms_rotated, roi_align_rotated
from detectron2.structures import RotatedBoxes, pairwise_iou_rotated

boxes = torch.tensor([[0.0, 0, 4, 2, 0], [1, 0, 4, 2, 180], [2, 0, 2, 4, 90]])
scores = torch.tensor([0.7, 0.8, 0.9])
assert nms_rotated(boxes, scores, 0.5).tolist() == [2, 0]
assert batched_nms_rotated(boxes, scores, torch.tensor([0, 1, 0]), 0.5).tolist() == [2, 1, 0]
ious = pairwise_iou_rotated(RotatedBoxes(boxes), RotatedBoxes(boxes))
torch.testing.assert_close(ious[0], torch.tensor([1, 3 / 5, 1 / 3]))
maps = torch.arange(64.0).view(1, 1, 8, 8).requires_grad_()
pooled = roi_align_rotated(maps, torch.tensor([[0.0, 4, 4, 2, 2, 90]]), 2, 1.0, 1)
# Centres of pixels; a quarter turn moves the top row to the left, bottom first.
assert pooled[0, 0].tolist() == [[35, 27], [36, 28]]
assert torch.autograd.grad(pooled.sum(), maps)[0].sum() == 4
"""

WORKER = """
import multiprocessing
import d2ext
from detectron2.layers import nms_rotated
import torch

if __name__ == "__main__":
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        print(pool.apply(nms_rotated, (torch.zeros(1, 5), torch.zeros(1), 0.5)))
"""


def run(*arguments: str) -> str:
    environment = {**os.environ, "D2EXT_DETECTRON2": "bundled", "PYTHONPATH": str(ROOT)}
    environment.pop("DETECTRON2_OPERATORS", None)
    command = [sys.executable, *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert not done.returncode, done.stderr
    return done.stdout


def test_rotated_functions_of_the_runtime_work():
    run("-c", USE)


def test_importing_d2ext_does_not_import_torch():
    run("-c", "import d2ext, sys; assert 'torch' not in sys.modules")


def test_spawned_workers_find_the_operators(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(WORKER, encoding="utf-8")
    assert run(str(script)).strip() == "tensor([0])"


def test_d2ext_ops_alone_registers_no_detectron2_names():
    code = "import d2ext.ops, torch; assert not hasattr(torch.ops.detectron2, 'nms_rotated')"
    run("-c", code)
