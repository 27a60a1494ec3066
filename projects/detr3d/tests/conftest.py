"""nuScenes' data and a DETR3D for tests."""

from pathlib import Path
from typing import Any

import pytest
import torch

import d2ext
from d2ext.config import load_config
from d2ext.projects.detr3d.data.tables import Tables
from detectron2.modeling import build_model

FOLDER = Path(d2ext.__file__).parents[1] / "tests/parity/nuscenes_mini/data"
CONFIG = "projects/detr3d/configs/detr3d_scenes.yaml"


@pytest.fixture(scope="session")
def tables():
    """Made-up tables of three scenes."""
    return Tables.read(FOLDER / "v1.0-mini")


@pytest.fixture(scope="session")
def items(tables):
    """All samples of the made-up tables."""
    return tables.items(tables.scene_names())


@pytest.fixture
def build():
    """A function from `KEY=value` below MODEL.DETR3D to a small model."""

    def build(**options: Any):
        words = [w for k, v in options.items() for w in (f"MODEL.DETR3D.{k}", str(v))]
        torch.manual_seed(0)
        return build_model(load_config(CONFIG, ["MODEL.DEVICE", "cpu", *words]))

    return build
