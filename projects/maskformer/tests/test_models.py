"""All models train, predict, and predict each image of a batch as they do alone."""

import pytest
import torch

from d2ext.config import load_config
from d2ext.engine.param_groups import build_param_groups
from d2ext.errors import ConfigError
from d2ext.modeling.required_annotations import required_annotations
from d2ext.projects.maskformer.tests.conftest import ALL_TASKS, CONFIG, VARIANTS, some_images

MASK_CLASSIFIERS = ["maskformer", "maskformer_encoder", "mask2former"]
INSTANCE = ["MODEL.MASK_FORMER.TASK", "instance"]


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_parameter_learns(build, variant):
    model = build(variant).train()
    losses = model(some_images((64, 96), (96, 64)))
    sum(losses.values()).backward()
    assert all(loss.isfinite() for loss in losses.values())
    without = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert without == []


@pytest.mark.parametrize("variant", VARIANTS)
def test_an_image_of_a_batch_is_predicted_as_alone(build, variant):
    tasks = ALL_TASKS if variant in MASK_CLASSIFIERS else []
    model = build(variant, *tasks).eval()
    batch = some_images((64, 96), (64, 96))
    batch[1] |= {"height": 50, "width": 120}
    with torch.no_grad():
        together, alone = model(batch), [model([item])[0] for item in batch]
    for both, single in zip(together, alone, strict=True):
        assert both.keys() == single.keys()
        torch.testing.assert_close(both["sem_seg"], single["sem_seg"], rtol=1e-4, atol=1e-5)
    assert together[1]["sem_seg"].shape == (4, 50, 120)
    if tasks:
        own, single = (found[1]["instances"] for found in (together, alone))
        assert own.pred_masks.shape[1:] == (50, 120)
        torch.testing.assert_close(own.scores, single.scores, rtol=1e-4, atol=1e-5)
        (segments, _), (others, _) = (found[1]["panoptic_seg"] for found in (together, alone))
        assert (segments == others).float().mean() > 0.99


@pytest.mark.parametrize("variant", MASK_CLASSIFIERS)
def test_losses_of_instances_come_from_every_layer(build, variant):
    model = build(variant, *INSTANCE).train()
    losses = model(some_images((64, 64)))
    layers = 4 if variant == "mask2former" else 3
    suffixes = [*(f"_{layer}" for layer in range(layers - 1)), ""]
    names = {f"loss_{kind}{suffix}" for kind in ("ce", "mask", "dice") for suffix in suffixes}
    assert losses.keys() == names
    model.deep_supervision = False
    assert model(some_images((64, 64))).keys() == {"loss_ce", "loss_mask", "loss_dice"}


@pytest.mark.parametrize("variant", MASK_CLASSIFIERS)
def test_images_without_masks_have_finite_losses(build, variant):
    model = build(variant).train()
    batch = some_images((64, 64))
    batch[0]["sem_seg"].fill_(255)
    losses = model(batch)
    sum(losses.values()).backward()
    assert all(loss.isfinite() for loss in losses.values())
    assert losses["loss_mask"] == 0


@pytest.mark.parametrize("variant", ["maskformer", "mask2former"])
def test_images_without_objects_have_no_mask_field_and_finite_losses(build, variant):
    model = build(variant, "MODEL.MASK_FORMER.TASK", "instance").train()
    batch = some_images((64, 64), (64, 64))
    batch[1]["instances"] = batch[1]["instances"][:0]
    batch[1]["instances"].remove("gt_masks")
    for images in (batch, batch[1:]):
        losses = model(images)
        assert all(torch.isfinite(loss) for loss in losses.values())


def test_an_image_with_more_masks_than_queries_has_finite_losses(build):
    model = build("mask2former", *INSTANCE, "MODEL.MASK_FORMER.NUM_QUERIES", "1").train()
    assert all(loss.isfinite() for loss in model(some_images((64, 64))).values())


@pytest.mark.parametrize("variant", VARIANTS)
def test_mixed_precision_trains(build, variant):
    model = build(variant).train()
    with torch.autocast("cpu", torch.bfloat16):
        losses = model(some_images((64, 64)))
    sum(losses.values()).backward()
    assert all(loss.isfinite() and loss.dtype == torch.float32 for loss in losses.values())


def test_a_batch_is_padded_to_the_configured_divisor(build):
    model = build("maskformer", "MODEL.MASK_FORMER.SIZE_DIVISIBILITY", "64")
    assert model.preprocess(some_images((70, 30))).tensor.shape == (1, 3, 128, 64)


@pytest.mark.parametrize("variant", ["per_pixel", "per_pixel_plus"])
def test_logits_of_pixels_are_resized_by_the_stride_and_cut(build, variant):
    model, batch = build(variant, "MODEL.MASK_FORMER.SIZE_DIVISIBILITY", "0"), some_images((30, 41))
    batch[0]["sem_seg"] = torch.ones(30, 41, dtype=torch.int64)
    assert all(loss.isfinite() for loss in model.train()(batch).values())
    with torch.no_grad():
        (found,) = model.eval()(batch)
        logits = model.predict(model.preprocess(batch))[-1]
    resized = torch.nn.functional.interpolate(logits, scale_factor=4, mode="bilinear")
    torch.testing.assert_close(found["sem_seg"], resized[0, :, :30, :41])


@pytest.mark.parametrize(
    ("task", "kind"),
    [("semantic", "semantic masks"), ("instance", "masks"), ("panoptic", "panoptic masks")],
)
def test_each_task_asks_for_its_annotations(task, kind):
    cfg = load_config(CONFIG, ["MODEL.MASK_FORMER.TASK", task])
    assert required_annotations(cfg) == {kind: f"MODEL.MASK_FORMER.TASK {task}"}


def test_an_unknown_task_is_refused(build):
    with pytest.raises(ConfigError, match=r"MASK_FORMER\.TASK: there is no 'depth', only semantic"):
        build("maskformer", "MODEL.MASK_FORMER.TASK", "depth")
    with pytest.raises(ConfigError, match=r"MASK_FORMER\.TEST\.TASKS: there is no 'depth'"):
        build("maskformer", "MODEL.MASK_FORMER.TEST.TASKS", "['depth']")


def test_a_missing_feature_map_is_refused(build):
    with pytest.raises(ConfigError, match="IN_FEATURES: the backbone has no feature map 'res5'"):
        build("maskformer", "MODEL.MASK_FORMER.IN_FEATURES", "['res5']")


def test_embeddings_and_norms_have_no_weight_decay_but_the_pixel_decoders_levels(build):
    model = build("mask2former")
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    cfg = load_config(CONFIG)
    groups = build_param_groups(cfg, model)
    decays = {names[id(p)]: group["weight_decay"] for group in groups for p in group["params"]}
    for name in ("query_feat", "query_embed", "level_embed"):
        assert decays[f"predictor.{name}.weight"] == 0
    assert decays["predictor.norm.weight"] == 0
    assert decays["pixel_decoder.level_embed"] == cfg.SOLVER.WEIGHT_DECAY
    assert decays["predictor.class_embed.weight"] == cfg.SOLVER.WEIGHT_DECAY
