import pytest
import torch

from d2ext.errors import ConfigError
from d2ext.modeling.dense_heads import ATSSHead, FCOSHead
from d2ext.modeling.meta_arch import ATSS, FCOS
from detectron2.modeling import build_model
from tests.helpers.models import some_input, tiny_config


@pytest.fixture
def model() -> ATSS:
    torch.manual_seed(0)
    return build_model(tiny_config())


def test_one_step_lowers_the_loss(model: ATSS):
    batch = [some_input(64, 64, 3), some_input(40, 57, 0, seed=1)]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    totals = []
    for _ in range(3):
        loss = sum(model(batch).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        totals.append(float(loss))
    assert totals[2] < totals[0]


@pytest.mark.parametrize("size", [(32, 32), (33, 95), (17, 64)])
def test_every_image_size_is_detected_on(model: ATSS, size: tuple[int, int]):
    model.eval().head.postprocess.score_thresh = 0.0
    image = some_input(*size, 0)
    with torch.no_grad():
        (found,) = model([image])
    boxes = found["instances"].pred_boxes.tensor
    assert len(boxes) > 0
    assert (boxes >= 0).all()
    assert (boxes <= torch.tensor([size[1], size[0]] * 2)).all()


def test_boxes_come_back_in_the_asked_size(model: ATSS):
    model.eval().head.postprocess.score_thresh = 0.0
    image = some_input(64, 64, 0)
    with torch.no_grad():
        (plain,) = model([image])
        (double,) = model([{**image, "height": 128, "width": 128}])
    assert double["instances"].image_size == (128, 128)
    torch.testing.assert_close(
        double["instances"].pred_boxes.tensor, 2 * plain["instances"].pred_boxes.tensor
    )


def test_images_of_one_size_give_the_same_detections_alone_and_in_a_batch(model: ATSS):
    model.eval().head.postprocess.score_thresh = 0.011
    batch = [some_input(64, 96, 0, seed=seed) for seed in range(3)]
    with torch.no_grad():
        together, alone = model(batch)[1]["instances"], model(batch[1:2])[0]["instances"]
    torch.testing.assert_close(together.scores, alone.scores)


def test_bfloat16_autocast_trains(model: ATSS):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = model([some_input(64, 64, 3)])
    sum(losses.values()).backward()
    assert all(loss.isfinite() for loss in losses.values())
    assert all(p.grad.isfinite().all() for p in model.parameters())


def test_images_are_normalised_and_padded_with_zeros(model: ATSS):
    images = model.preprocess([{"image": torch.zeros(3, 20, 30, dtype=torch.uint8)}])
    assert images.tensor.shape == (1, 3, 32, 32)
    assert images.image_sizes == [(20, 30)]
    expected = -torch.tensor(model.pixel_mean) / torch.tensor(model.pixel_std)
    torch.testing.assert_close(images.tensor[0, :, :20, :30], expected.expand(3, 20, 30))
    assert (images.tensor[0, :, 20:] == 0).all()


def test_the_same_weights_and_image_give_the_same_losses_twice(model: ATSS):
    model.backbone.backbone.bottom_up.eval()  # without stochastic depth
    batch = [some_input(64, 64, 3)]
    first, second = model(batch), model(batch)
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(("architecture", "head"), [(ATSS, ATSSHead), (FCOS, FCOSHead)])
def test_the_config_chooses_the_head_of_a_dense_detector(architecture, head):
    cfg = tiny_config()
    cfg.MODEL.META_ARCHITECTURE, cfg.MODEL.DENSE_HEAD.NAME = "DenseDetector", head.__name__
    torch.manual_seed(0)
    chosen = build_model(cfg)
    assert isinstance(chosen.head, head)
    cfg.MODEL.META_ARCHITECTURE = architecture.__name__
    torch.manual_seed(0)
    named, weights = build_model(cfg).state_dict(), chosen.state_dict()
    assert list(named) == list(weights)
    assert all(torch.equal(named[name], weights[name]) for name in named)


def test_a_head_that_is_not_registered_is_named():
    cfg = tiny_config()
    cfg.MODEL.META_ARCHITECTURE, cfg.MODEL.DENSE_HEAD.NAME = "DenseDetector", "ATSHead"
    with pytest.raises(ConfigError, match=r"MODEL\.DENSE_HEAD\.NAME: 'ATSHead'.*ATSSHead\?"):
        build_model(cfg)
