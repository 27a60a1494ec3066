"""Backbone, encoder and decoder compile without graph breaks."""

import pytest
import torch


@torch.no_grad()
@pytest.mark.parametrize("variant", ["detr", "conditional", "dab"])
def test_there_are_no_graph_breaks(variant, build, some_image):
    model = build(variant).eval()
    images = model.preprocess([some_image(64, 96), some_image(96, 70)])
    expected = model.predict(images)[0]
    compiled = torch.compile(model.predict, backend="eager", fullgraph=True)
    found = compiled(images)[0]
    torch.testing.assert_close(found.logits, expected.logits)
    torch.testing.assert_close(found.boxes, expected.boxes)
