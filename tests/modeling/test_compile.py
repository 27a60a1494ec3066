"""torch.compile takes backbone, neck and head in one graph."""

import pytest
import torch

from detectron2.modeling import build_model
from tests.helpers.models import LEVELS, head_config


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ATSS", "FCOS"])
def test_no_graph_breaks_between_the_image_and_the_raw_outputs(name):
    cfg = head_config(name, LEVELS)
    if name == "FCOS":  # on a plain pyramid
        cfg.MODEL.BACKBONE.NAME = "FPNBackbone"
    model = build_model(cfg).train()
    explained = torch._dynamo.explain(lambda image: model.head(model.backbone(image)))(
        torch.randn(1, 3, 64, 96)
    )
    assert explained.graph_break_count == 0, explained.break_reasons
    assert explained.graph_count == 1
    assert explained.op_count > 100
