"""DETR3D gives what its authors' code gives, on reference cases."""

from pathlib import Path

import pytest

import d2ext
from d2ext._detectron2 import provider
from d2ext.parity import run_case

FOLDER = Path(d2ext.__file__).parents[1] / "tests/parity"
BUNDLED_ONLY = pytest.mark.skipif(
    provider() == "official",
    reason="the official one has no gradient of deformable convolution on the CPU",
)


@pytest.mark.parametrize(
    "name",
    [
        "detr3d_modules",
        "detr3d_head",
        "nuscenes_mini",
        pytest.param("detr3d_full_r101dcn", marks=[BUNDLED_ONLY, pytest.mark.slow]),
    ],
)
def test_every_output_is_within_its_tolerance(name):
    missed = [each for each in run_case(FOLDER / name) if not each.passed]
    assert not missed
