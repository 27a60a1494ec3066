"""Deformable DETR, DAB-Deformable-DETR and DINO as wholes."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from d2ext.errors import ConfigError
from detectron2.structures import ImageList

ALL = ["deformable", "refined", "two_stage", "single_scale", "dab", "dino", "dino_4_levels"]
SIZES = st.tuples(st.integers(40, 120), st.integers(40, 120))


@pytest.fixture(scope="module")
def models() -> dict:
    return {}


@pytest.mark.parametrize("variant", ALL)
@settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck))
@given(first=SIZES, second=SIZES)
def test_a_batch_gives_what_each_image_gives_with_the_same_padding(
    build, models, some_image, variant, first, second
):
    if variant not in models:
        models[variant] = build(variant).eval()
    model = models[variant]
    images = model.preprocess([some_image(*first), some_image(*second, seed=1)])
    with torch.no_grad():
        together = model.predict(images)[0]
        for index, size in enumerate(images.image_sizes):
            alone = model.predict(ImageList(images.tensor[index : index + 1], [size]))[0]
            for whole, own in ((together.logits, alone.logits), (together.boxes, alone.boxes)):
                torch.testing.assert_close(whole[:, index], own[:, 0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("variant", ALL)
@pytest.mark.parametrize("counts", [(3, 0), (0, 0), (1, 9)])
def test_losses_and_gradients_are_finite_and_reach_every_parameter(
    build, some_image, variant, counts
):
    model = build(variant).train()
    losses = model([some_image(64, 150, counts[0]), some_image(100, 48, counts[1], seed=1)])
    sum(losses.values()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


@pytest.mark.parametrize("variant", ALL)
def test_names_of_losses_do_not_depend_on_the_batch(build, some_image, variant):
    # Processes reduce their losses by name, and one may see a batch without objects.
    model = build(variant).train()
    assert model([some_image(64, 64, 2)]).keys() == model([some_image(64, 64, 0)]).keys()


@pytest.mark.parametrize("variant", ALL)
def test_bfloat16_trains_without_overflow(build, some_image, variant):
    model = build(variant).train()
    with torch.autocast("cpu", torch.bfloat16):
        losses = model([some_image(64, 96, 4)])
    sum(losses.values()).backward()
    assert all(loss.isfinite() for loss in losses.values())
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


@pytest.mark.parametrize("variant", ["two_stage", "dino"])
def test_gradient_checkpointing_changes_no_gradient(build, some_image, variant):
    batch, gradients = [some_image(64, 96, 4)], []
    for use_checkpoint in ("False", "True"):
        model = build(variant, "MODEL.DETR.USE_CHECKPOINT", use_checkpoint).train()
        torch.manual_seed(1)  # of the noise
        sum(model(batch).values()).backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    for plain, recomputed in zip(*gradients, strict=True):
        torch.testing.assert_close(recomputed, plain, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("variant", ["two_stage", "dino"])
def test_an_image_with_fewer_tokens_than_queries_has_fewer_queries(build, some_image, variant):
    model = build(variant, "MODEL.DETR.NUM_QUERIES", "50")
    with torch.no_grad():
        found = model.eval().predict(model.preprocess([some_image(32, 32)]))[0]
    assert found.boxes.shape[2] == 16 + 4 + 1
    losses = model.train()([some_image(32, 32, 3), some_image(32, 32, 1)])
    assert all(loss.isfinite() for loss in losses.values())


@pytest.mark.parametrize("variant", ALL)
def test_detections_are_in_pixels_of_the_unpadded_image(build, some_image, variant):
    model = build(variant).eval()
    small, large = some_image(40, 60), some_image(80, 120, seed=1)
    with torch.no_grad():
        images = model.preprocess([small, large])
        boxes = model.predict(images)[0].boxes[-1, 0]
        found = model.detect(images)[0]
    assert found.image_size == (40, 60)
    centers = found.pred_boxes.get_centers() / torch.tensor([60, 40])
    distance = torch.cdist(centers, boxes[:, :2]).amin(1)
    torch.testing.assert_close(distance, torch.zeros_like(distance), rtol=0, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["two_stage", "dab", "dino"])
def test_backbone_encoder_and_decoder_compile_without_graph_breaks(build, some_image, variant):
    model = build(variant).eval()
    with torch.no_grad():
        images = model.preprocess([some_image(64, 96), some_image(96, 70)])
        expected = model.predict(images)[0]
        found = torch.compile(model.predict, backend="eager", fullgraph=True)(images)[0]
    torch.testing.assert_close(found.logits, expected.logits)
    torch.testing.assert_close(found.boxes, expected.boxes)


def test_a_dino_without_denoising_trains(build, some_image):
    losses = build("dino", "MODEL.DINO.DENOISING.NUM_QUERIES", "0").train()([some_image(64, 64, 3)])
    assert all(loss.isfinite() for loss in losses.values())
    assert losses["loss_bbox_dn"] == 0


def test_two_stages_ask_for_box_refinement(build):
    with pytest.raises(ConfigError, match=r"set MODEL\.DEFORMABLE_DETR\.BOX_REFINEMENT to True"):
        build("two_stage", "MODEL.DEFORMABLE_DETR.BOX_REFINEMENT", "False")


def test_an_unknown_feature_map_is_named_with_those_there_are(build):
    with pytest.raises(ConfigError, match=r"no feature map 'res5'.*stride8, stride16, stride32"):
        build("deformable", "MODEL.DETR.IN_FEATURES", "['res5']")


def test_fewer_levels_than_feature_maps_are_refused(build):
    with pytest.raises(ConfigError, match=r"NUM_LEVELS is 2, but .* has 3 feature maps"):
        build("deformable", "MODEL.DEFORMABLE_DETR.NUM_LEVELS", "2")


def test_only_refinement_gives_decoder_layers_heads_of_their_own(build):
    assert len(set(build("deformable").bbox_embed)) == 1
    assert len(set(build("refined").bbox_embed)) == 2
    assert len(set(build("two_stage").bbox_embed)) == 3  # the last one is of the proposals


def test_a_dino_that_knows_no_padding_in_evaluation_differs_in_padded_batches_only(
    build, some_image
):
    masked, blind = (
        build("dino").eval(),
        build("dino", "MODEL.DINO.MASK_PADDING_TEST", "False").eval(),
    )
    batch = [some_image(40, 60), some_image(96, 96, seed=1)]
    with torch.no_grad():
        first, second = (
            model.predict(model.preprocess(batch))[0].boxes[-1] for model in (masked, blind)
        )
    torch.testing.assert_close(first[1], second[1], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(first[0], second[0], atol=1e-3)
