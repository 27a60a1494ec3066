"""Models compiled by TorchScript match the models in Python."""

import pytest
import torch
from torch import Tensor, nn

from detectron2.export import scripting_with_instances
from detectron2.export.torchscript import patch_instances
from detectron2.export.torchscript_patch import freeze_training_mode
from detectron2.layers import paste_masks_in_image
from detectron2.structures import Boxes, Instances
from tests.helpers.runtime_detectors import model_of
from tests.helpers.weights import image as picture

testing = pytest.importorskip("detectron2.utils.testing", reason="it needs pkg_resources")
assert_instances_allclose = testing.assert_instances_allclose
random_boxes = testing.random_boxes
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit")  # deprecated

FIELDS = {
    "proposal_boxes": Boxes,
    "objectness_logits": Tensor,
    "pred_boxes": Boxes,
    "scores": Tensor,
    "pred_classes": Tensor,
    "pred_masks": Tensor,
    "pred_keypoints": Tensor,
    "pred_keypoint_heatmaps": Tensor,
}
IMAGES = [{"image": picture(1, 120, 90)}, {"image": picture(2, 60, 90)}]


@pytest.mark.parametrize("name", ["faster", "masks", "keypoints", "c4"])
def test_a_scripted_rcnn_returns_the_same_detections(name: str):
    model = model_of(name)
    compiled = scripting_with_instances(model, FIELDS)
    with torch.no_grad():
        expected = model.inference(IMAGES, do_postprocess=False)
        found = compiled.inference(IMAGES, do_postprocess=False)
    for one, other in zip(found, expected, strict=True):
        assert len(other) > 0
        assert_instances_allclose(one, other)


def test_a_scripted_retinanet_returns_the_same_detections():
    model = model_of("retinanet")
    compiled = scripting_with_instances(model, FIELDS)
    images = [IMAGES[0]]
    with torch.no_grad():
        expected, found = model(images)[0]["instances"], compiled(images)[0]
    assert len(expected) == len(found) > 0
    torch.testing.assert_close(found.scores, expected.scores)


def test_a_model_in_training_mode_is_not_scripted():
    with pytest.raises((AssertionError, ValueError), match=r"eval|script"):
        scripting_with_instances(nn.Linear(1, 1).train(), {})


class Best(nn.Module):
    def forward(self, found: Instances) -> Instances:
        if self.training:
            return found.no_such_method()
        return found[found.scores > 0.5]


def test_instances_of_known_fields_are_scripted():
    found = Instances((6, 8), scores=torch.tensor([0.3, 0.7, 0.9]))
    found.pred_boxes = Boxes(random_boxes(3))
    model = Best().eval()
    with freeze_training_mode(model), patch_instances({**FIELDS}) as kind:
        best = torch.jit.script(model)(kind.from_instances(found))
        assert len(best) == 2
        assert best.image_size == (6, 8)
        assert not best.has("pred_masks")
        assert torch.equal(best.pred_boxes.tensor, found.pred_boxes.tensor[1:])
        joined = best.cat([best, best])
        assert torch.equal(joined.scores, torch.tensor([0.7, 0.9, 0.7, 0.9]))
        with pytest.raises(Exception, match="pred_masks"):
            best.pred_masks  # noqa: B018


def test_unknown_fields_are_not_scripted():
    model = Best().eval()
    with freeze_training_mode(model), patch_instances({"pred_boxes": Boxes}):  # noqa: SIM117
        with pytest.raises(RuntimeError, match="scores"):
            torch.jit.script(model)


def test_pasting_of_masks_is_scripted():
    masks, boxes = torch.rand(5, 14, 14), random_boxes(5)
    compiled = torch.jit.script(paste_masks_in_image)
    for size in (90, 120), (100, 50):
        found = compiled(masks, boxes, size)
        assert torch.equal(found, paste_masks_in_image(masks, boxes, size))


class Fields(nn.Module):
    def forward(self, instances: Instances) -> dict[str, Tensor]:
        return instances.get_fields()


def test_fields_of_scripted_instances_are_tensors_by_name(monkeypatch: pytest.MonkeyPatch):
    with patch_instances({**FIELDS}) as kind:
        monkeypatch.setitem(Fields.forward.__annotations__, "instances", kind)
        compiled = torch.jit.script(Fields())
        instances = kind((4, 5))
        instances.pred_boxes = Boxes(torch.ones(2, 4))
        instances.scores = torch.zeros(2)
        found = compiled(instances)
    assert list(found) == ["pred_boxes", "scores"]
    assert found["pred_boxes"].tolist() == [[1, 1, 1, 1]] * 2
