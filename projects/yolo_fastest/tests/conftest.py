"""A YOLO-FastestV2 for tests."""

from typing import Any

import pytest

from d2ext.config import load_config
from detectron2.modeling import build_model

CONFIG = "projects/yolo_fastest/configs/yolo_fastest_v2_coco.yaml"


@pytest.fixture
def build():
    """A function from `KEY=value` below MODEL.YOLO_FASTEST to a model of three classes."""

    def build(**options: Any):
        options = {"NUM_CLASSES": 3, **options}
        words = [w for k, v in options.items() for w in (f"MODEL.YOLO_FASTEST.{k}", str(v))]
        return build_model(load_config(CONFIG, ["MODEL.DEVICE", "cpu", *words]))

    return build
