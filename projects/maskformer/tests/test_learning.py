"""The models learn an image by heart: losses, matching and inference agree about masks."""

import pytest
import torch

from d2ext.projects.maskformer.tests.conftest import some_images

OPTIONS = [
    *("MODEL.MASK_FORMER.TASK", "instance"),
    *("MODEL.MASK_FORMER.TEST.TASKS", "['instance']"),
    *("MODEL.MASK_FORMER.LOSS.NUM_POINTS", "512"),
]


@pytest.mark.parametrize("variant", ["maskformer", "mask2former"])
def test_the_masks_of_an_image_are_learnt(build, variant):
    model, batch = build(variant, *OPTIONS).train(), some_images((64, 96))
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    for _ in range(80):
        optimizer.zero_grad()
        torch.stack([*model(batch).values()]).sum().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        optimizer.step()
    with torch.no_grad():
        found = model.eval()(batch)[0]["instances"][:2]
    found = found[found.pred_classes.argsort()]
    truth = batch[0]["instances"]
    assert found.pred_classes.tolist() == truth.gt_classes.tolist()
    assert found.scores.min() > 0.9
    for mask, expected in zip(found.pred_masks, truth.gt_masks.tensor, strict=True):
        assert (mask & expected).sum() / (mask | expected).sum() > 0.95
