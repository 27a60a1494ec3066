"""What holds for DETR, Conditional DETR and DAB-DETR alike."""

import random

import pytest
import torch
from torch import nn

from d2ext.errors import UserError
from detectron2.structures import ImageList

ALL = ["detr", "detr_pre_norm", "detr_masks", "conditional", "dab", "dab_3_patterns"]


@pytest.mark.parametrize("variant", ALL)
def test_an_image_in_a_batch_is_predicted_as_alone_with_the_same_padding(
    variant, build, some_image
):
    model, sizes = build(variant).eval(), random.Random(variant)
    for trial in range(4):
        batch = [
            some_image(sizes.randint(33, 160), sizes.randint(33, 160), seed=10 * trial + index)
            for index in range(3)
        ]
        images = model.preprocess(batch)
        with torch.no_grad():
            together = model.predict(images)[0]
            for index, size in enumerate(images.image_sizes):
                alone = model.predict(ImageList(images.tensor[index : index + 1], [size]))[0]
                for name in ("logits", "boxes"):
                    own, other = getattr(together, name)[:, index], getattr(alone, name)[:, 0]
                    torch.testing.assert_close(own, other, atol=1e-4, rtol=0)
                if together.masks is not None:
                    torch.testing.assert_close(
                        together.masks[index], alone.masks[0], atol=1e-4, rtol=0
                    )


@pytest.mark.parametrize("variant", ["detr", "conditional", "dab"])
def test_features_of_padding_do_not_reach_the_predictions(variant, build):
    model = build(variant).eval()
    tensor = torch.zeros(1, 3, 96, 128)
    images = ImageList(tensor, [(64, 96)])
    feature = torch.randn(1, model.input_proj.in_channels, 3, 4)
    other = feature.clone()
    other[:, :, 2:], other[:, :, :, 3:] = 9.0, -9.0
    with torch.no_grad():
        pairs = [model.decode(model.encode(each, images))[0] for each in (feature, other)]
    torch.testing.assert_close(pairs[0].logits, pairs[1].logits, atol=1e-4, rtol=0)
    torch.testing.assert_close(pairs[0].boxes, pairs[1].boxes, atol=1e-4, rtol=0)


@pytest.mark.parametrize("variant", ALL)
def test_a_training_step_reaches_every_parameter(variant, build, some_image):
    model = build(variant, "MODEL.BACKBONE.FREEZE_AT", "0").train()
    losses = model([some_image(64, 96, 3), some_image(80, 70, 0, seed=1)])
    sum(losses.values()).backward()
    missing = [
        name
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and parameter.grad is None
    ]
    assert missing == []
    assert all(loss.isfinite() for loss in losses.values())


def test_losses_have_the_published_names(build, some_image):
    losses = build("detr_masks").train()([some_image(64, 64, 2)])
    kinds = {"loss_ce", "loss_bbox", "loss_giou"}
    assert set(losses) == kinds | {f"{k}_0" for k in kinds} | {"loss_mask", "loss_dice"}


def test_only_the_last_layer_is_supervised_if_asked(build, some_image):
    model = build("conditional", "MODEL.DETR.DEEP_SUPERVISION", "False").train()
    assert set(model([some_image(64, 64, 2)])) == {"loss_ce", "loss_bbox", "loss_giou"}


@pytest.mark.parametrize("variant", ["detr", "conditional", "dab"])
def test_gradient_checkpointing_changes_no_loss(variant, build, some_image):
    options = ["MODEL.DETR.DROPOUT", "0.0", "MODEL.DETR.USE_CHECKPOINT"]
    losses, grads = [], []
    for value in ("False", "True"):
        model = build(variant, *options, value).train()
        torch.manual_seed(3)
        total = sum(model([some_image(64, 64, 2)]).values())
        total.backward()
        losses.append(total)
        grads.append(model.input_proj.weight.grad)
    torch.testing.assert_close(losses[0], losses[1])
    torch.testing.assert_close(grads[0], grads[1])


def test_a_query_gives_one_detection_under_softmax_and_several_under_focal(build, some_image):
    batch = [{**some_image(64, 96), "height": 128, "width": 192}]
    per_query = build("detr").eval()(batch)[0]["instances"]
    topk = build("dab").eval()(batch)[0]["instances"]
    assert len(per_query) <= 7
    assert len(topk) <= 10
    assert (topk.scores.diff() <= 0).all()
    assert topk.image_size == (128, 192)


def test_masks_have_the_size_of_the_output(build, some_image):
    batch = [{**some_image(64, 96), "height": 33, "width": 50}, some_image(40, 70)]
    found = build("detr_masks").eval()(batch)
    assert found[0]["instances"].pred_masks.shape[1:] == (33, 50)
    assert found[1]["instances"].pred_masks.shape[1:] == (40, 70)
    assert found[0]["instances"].pred_masks.dtype == torch.bool


def test_a_frozen_detector_leaves_only_the_mask_head_to_learn(build, some_image):
    model = build("detr_masks", "MODEL.DETR.MASK_HEAD.FREEZE_DETECTOR", "True").train()
    sum(model([some_image(64, 64, 2)]).values()).backward()
    learning = {name.split(".")[0] for name, p in model.named_parameters() if p.requires_grad}
    assert learning == {"mask_head"}
    assert model.mask_head.predictor.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("variant", ALL)
def test_bfloat16_trains_with_float32_losses(variant, build, some_image):
    model = build(variant).train()
    with torch.autocast("cpu", torch.bfloat16):
        losses = model([some_image(64, 64, 2)])
    assert {loss.dtype for loss in losses.values()} == {torch.float32}
    sum(losses.values()).backward()
    grads = [p.grad for p in model.parameters() if p.grad is not None]
    assert all(grad.isfinite().all() for grad in grads)


def test_a_diverged_model_names_layer_and_image(build, some_image):
    model = build("conditional").train()
    nn.init.constant_(model.bbox_embed.layers[-1].bias, torch.nan)
    with pytest.raises(UserError, match=r"layer 0 with .* image 0 of the batch \(4\.jpg\)"):
        model([some_image(64, 64, 2, seed=4)])
