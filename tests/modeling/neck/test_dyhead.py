import pytest
import torch
from torch import Tensor

from d2ext.errors import ConfigError
from d2ext.modeling.neck import DyHead, DyHeadBlock
from d2ext.modeling.neck.dyhead import ScaleAttention, TaskAttention
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY
from tests.helpers.models import tiny_config

IMAGE = ShapeSpec(channels=3)


def pyramid(*sizes: tuple[int, int], batch: int = 2) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(batch, 32, *size, generator=generator) for size in sizes]


@pytest.mark.parametrize(
    "sizes",
    [
        [(8, 8), (4, 4), (2, 2), (1, 1)],
        [(5, 7), (3, 4), (2, 2)],  # an odd level's coarser neighbour is rounded up
        [(4, 4)],
    ],
)
def test_levels_keep_their_sizes_and_get_finite_gradients(sizes: list[tuple[int, int]]):
    block = DyHeadBlock(32)
    levels = [level.requires_grad_() for level in pyramid(*sizes)]
    outputs = block(levels)
    assert [o.shape for o in outputs] == [level.shape for level in levels]
    sum(output.square().sum() for output in outputs).backward()
    for level in levels:
        assert level.grad.isfinite().all()
        assert level.grad.any()


def test_gradient_checkpointing_does_not_change_gradients():
    block, found = DyHeadBlock(32), []  # in training, as every new module
    torch.nn.init.normal_(block.spatial.offset.weight, std=0.05)
    for block.use_checkpoint in (True, False):
        outputs = block(pyramid((8, 8), (4, 4)))
        loss = sum(output.square().sum() for output in outputs)
        found.append(torch.autograd.grad(loss, list(block.parameters())))
    for again, kept in zip(*found, strict=True):  # levels are added one by one, or together
        torch.testing.assert_close(again, kept)


def test_an_image_gives_the_same_levels_alone_and_in_a_batch():
    block = DyHeadBlock(32)
    torch.nn.init.normal_(block.spatial.offset.weight, std=0.05)
    levels = pyramid((8, 8), (4, 4), (2, 2), batch=3)
    together = block(levels)
    alone = block([level[1:2] for level in levels])
    for one, many in zip(alone, together, strict=True):
        torch.testing.assert_close(one, many[1:2], atol=1e-5, rtol=1e-4)


def test_a_level_sees_its_neighbours_only():
    block = DyHeadBlock(32)
    levels = pyramid((8, 8), (4, 4), (2, 2), (1, 1))
    before = block(levels)
    levels[0] = levels[0] + 1
    levels[0][:, 0] += 1
    after = block(levels)
    changed = [not torch.equal(a, b) for a, b in zip(before, after, strict=True)]
    assert changed == [True, True, False, False]


def test_resized_offsets_of_equal_value_shift_the_coarser_level_by_it():
    block = DyHeadBlock(32, "resize")
    torch.nn.init.constant_(
        block.spatial.offset.bias, 1.0
    )  # one pixel down and right, for all taps
    levels = pyramid((8, 8), (4, 4))
    (views,) = block.spatial(levels, [0])
    ones = [torch.ones(2, channels, 4, 4) for channels in (18, 9)]
    (moved,) = block.spatial.coarser([(levels[1], ones[0], torch.sigmoid(ones[1]))])
    expected = torch.nn.functional.interpolate(moved, (8, 8), mode="bilinear", align_corners=True)
    torch.testing.assert_close(views[1], expected)


def test_offsets_are_read_flat_or_resized_as_the_config_says():
    levels = pyramid((8, 8), (4, 4))
    blocks = [DyHeadBlock(32, kind) for kind in ("flat", "resize")]
    torch.nn.init.normal_(blocks[0].spatial.offset.weight, std=0.3)
    blocks[1].load_state_dict(blocks[0].state_dict())
    flat, resize = (block(levels) for block in blocks)
    assert not torch.allclose(flat[0], resize[0])
    torch.testing.assert_close(flat[1], resize[1])  # the coarsest level has no coarser one
    cfg = tiny_config()
    cfg.MODEL.DYHEAD.COARSE_OFFSETS = "crop"
    with pytest.raises(ConfigError, match="'crop' is none of flat, resize"):
        DyHead(cfg, IMAGE)


def test_memory_format_does_not_change_the_result():
    block = DyHeadBlock(32)
    torch.nn.init.normal_(block.spatial.offset.weight, std=0.05)
    levels = pyramid((8, 6), (4, 3))
    last = block([level.contiguous(memory_format=torch.channels_last) for level in levels])
    for first, second in zip(block(levels), last, strict=True):
        torch.testing.assert_close(first, second, atol=1e-5, rtol=1e-4)


def test_scale_attention_with_weights_of_one_is_the_mean_of_the_views():
    scale = ScaleAttention(32)
    torch.nn.init.constant_(scale.conv.bias, 3.0)
    torch.nn.init.zeros_(scale.conv.weight)
    views = pyramid((4, 4), (4, 4))
    torch.testing.assert_close(scale(views), (views[0] + views[1]) / 2)


def test_task_attention_with_neutral_coefficients_is_a_relu():
    task = TaskAttention(32)
    torch.nn.init.zeros_(task.fc2.weight)
    torch.nn.init.zeros_(task.fc2.bias)
    (level,) = pyramid((4, 4))
    torch.testing.assert_close(task(level), level.relu())


def test_bfloat16_autocast_runs_forward_and_backward():
    cfg = tiny_config()
    model = DyHead(cfg, IMAGE)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs = model(torch.randn(1, 3, 64, 64))
        sum(output.float().sum() for output in outputs.values()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad.isfinite().all(), name


def test_it_wraps_the_pyramid_that_the_config_names():
    cfg = tiny_config()
    model = BACKBONE_REGISTRY.get("DyHead")(cfg, IMAGE)
    assert model.size_divisibility == 32
    assert list(model(torch.randn(1, 3, 32, 32))) == ["p3", "p4", "p5", "p6", "p7"]
    cfg.MODEL.DYHEAD.BACKBONE = "FPN"
    with pytest.raises(ConfigError, match=r"MODEL\.DYHEAD\.BACKBONE: 'FPN' is not registered"):
        DyHead(cfg, IMAGE)


def test_levels_of_different_or_unsuitable_channels_are_refused():
    cfg = tiny_config()
    cfg.MODEL.FPN.OUT_CHANNELS = 40
    with pytest.raises(ConfigError, match=r"multiple of 16.* p3 40, p4 40.*FPN\.OUT_CHANNELS"):
        DyHead(cfg, IMAGE)
    cfg.MODEL.DYHEAD.BACKBONE = "SwinTransformer"
    with pytest.raises(ConfigError, match=r"same number of channels.*stage3 32, stage4 64"):
        DyHead(cfg, IMAGE)
