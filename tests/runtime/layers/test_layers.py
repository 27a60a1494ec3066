"""`detectron2.layers`, by hand-computed numbers."""

import math

import pytest
import torch
from torch import nn

import d2ext  # noqa: F401
from d2ext._detectron2 import provider
from detectron2 import layers
from detectron2.layers import FrozenBatchNorm2d, ShapeSpec


def test_a_shape_spec_compares_by_value_and_is_empty_by_default():
    assert ShapeSpec(channels=3, stride=4) == ShapeSpec(3, None, None, 4)
    assert ShapeSpec().height is None


def test_conv2d_applies_the_norm_then_the_activation():
    conv = layers.Conv2d(1, 1, 1, bias=False, norm=nn.GroupNorm(1, 1), activation=torch.relu)
    nn.init.ones_(conv.weight)
    out = conv(torch.tensor([[[[1.0, 3.0]]]]))
    torch.testing.assert_close(out, torch.tensor([[[[0.0, 1.0]]]]), atol=1e-4, rtol=0)


def test_conv2d_accepts_an_empty_batch():
    assert layers.Conv2d(3, 8, 3, stride=2, padding=1)(torch.zeros(0, 3, 8, 6)).shape == (
        0,
        8,
        4,
        3,
    )


def test_cat_returns_a_single_tensor_itself():
    x = torch.ones(2)
    assert layers.cat([x]) is x
    assert layers.cat((x, x), dim=0).tolist() == [1, 1, 1, 1]


def test_cross_entropy_of_an_empty_batch_is_zero_with_a_gradient():
    logits = torch.zeros(0, 3, requires_grad=True)
    loss = layers.cross_entropy(logits, torch.zeros(0, dtype=torch.long), reduction="mean")
    loss.backward()
    assert loss.item() == 0
    assert logits.grad.shape == (0, 3)


def test_cross_entropy_of_equal_logits_is_the_log_of_the_number_of_classes():
    loss = layers.cross_entropy(torch.zeros(2, 4), torch.tensor([0, 3]))
    assert loss.item() == pytest.approx(math.log(4))


def test_nonzero_tuple_returns_one_index_per_dimension():
    rows, columns = layers.nonzero_tuple(torch.tensor([[0, 1], [1, 0]]))
    assert (rows.tolist(), columns.tolist()) == ([0, 1], [1, 0])
    assert [i.tolist() for i in layers.nonzero_tuple(torch.tensor(5))] == [[0]]


def test_shapes_to_tensor_returns_integers():
    shape = layers.shapes_to_tensor([4, 6])
    assert shape.tolist() == [4, 6]
    assert shape.dtype == torch.int64


class TestNorm:
    def test_an_empty_name_gives_no_norm(self):
        assert layers.get_norm("", 8) is None
        assert layers.get_norm(None, 8) is None

    @pytest.mark.parametrize(
        ("name", "kind"),
        [
            ("BN", nn.BatchNorm2d),
            ("SyncBN", nn.SyncBatchNorm),
            ("nnSyncBN", nn.SyncBatchNorm),
            ("naiveSyncBN", layers.NaiveSyncBatchNorm),
            ("FrozenBN", FrozenBatchNorm2d),
            ("GN", nn.GroupNorm),
        ],
    )
    def test_get_norm_returns_the_named_layer(self, name: str, kind: type):
        assert isinstance(layers.get_norm(name, 64), kind)

    def test_get_norm_refuses_an_unknown_name(self):
        with pytest.raises(KeyError):
            layers.get_norm("NoSuchNorm", 8)

    def test_get_norm_calls_a_callable_with_the_channels(self):
        assert layers.get_norm(lambda channels: ("made", channels), 5) == ("made", 5)

    def test_layer_norm_normalises_over_channels(self):
        x = torch.tensor([1.0, 3.0]).reshape(1, 2, 1, 1)
        out = layers.get_norm("LN", 2)(x).flatten()
        torch.testing.assert_close(out, torch.tensor([-1.0, 1.0]), atol=1e-4, rtol=0)

    def test_cycled_batch_norms_share_the_affine_part_and_not_the_statistics(self):
        norm = layers.CycleBatchNormList(length=2, num_features=1)
        norm(torch.full((2, 1, 2, 2), 10.0))
        norm(torch.full((2, 1, 2, 2), 20.0))
        assert [n.running_mean.item() for n in norm] == pytest.approx([1.0, 2.0])
        assert sorted(name for name, _ in norm.named_parameters()) == ["bias", "weight"]


class TestFrozenBatchNorm:
    def test_a_new_frozen_batch_norm_is_the_identity(self):
        x = torch.randn(2, 3, 4, 4)
        torch.testing.assert_close(FrozenBatchNorm2d(3)(x), x)

    @pytest.mark.parametrize("requires_grad", [False, True])
    def test_a_frozen_batch_norm_scales_and_shifts(self, requires_grad: bool):
        norm = FrozenBatchNorm2d(1, eps=0.0)
        norm.weight.fill_(3.0)
        norm.bias.fill_(1.0)
        norm.running_mean.fill_(2.0)
        norm.running_var.fill_(4.0)
        x = torch.full((1, 1, 1, 1), 6.0, requires_grad=requires_grad)
        assert norm(x).item() == pytest.approx((6 - 2) / 2 * 3 + 1)

    def test_a_frozen_batch_norm_has_no_parameters_and_keeps_half_precision(self):
        norm = FrozenBatchNorm2d(2)
        assert not list(norm.parameters())
        x = torch.ones(1, 2, 2, 2, dtype=torch.float16, requires_grad=True)
        assert norm(x).dtype == torch.float16

    def test_a_state_dict_of_version_1_may_lack_the_statistics(self):
        norm = FrozenBatchNorm2d(2)
        norm.load_state_dict({"weight": torch.full((2,), 5.0), "bias": torch.zeros(2)})
        assert norm.weight.tolist() == [5, 5]
        assert norm.running_var.tolist() == pytest.approx([1, 1], abs=1e-4)

    def test_a_current_state_dict_must_be_complete(self):
        state = FrozenBatchNorm2d(2).state_dict()
        assert sorted(state) == ["bias", "running_mean", "running_var", "weight"]
        del state["running_var"]
        with pytest.raises(RuntimeError, match="running_var"):
            FrozenBatchNorm2d(2).load_state_dict(state)

    def test_converting_freezes_every_batch_norm_inside(self):
        model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.Sequential(nn.BatchNorm2d(2)))
        model[1][0].running_mean.fill_(7.0)
        frozen = FrozenBatchNorm2d.convert_frozen_batchnorm(model)
        assert isinstance(frozen[1][0], FrozenBatchNorm2d)
        assert frozen[1][0].running_mean.tolist() == [7, 7]

    def test_converting_back_gives_the_same_function(self):
        norm = FrozenBatchNorm2d(2)
        norm.running_mean.copy_(torch.tensor([1.0, -1.0]))
        back = FrozenBatchNorm2d.convert_frozenbatchnorm2d_to_batchnorm2d(nn.Sequential(norm))
        assert isinstance(back[0], nn.BatchNorm2d)
        x = torch.randn(2, 2, 3, 3)
        torch.testing.assert_close(back.eval()(x), norm(x))


def test_freezing_a_block_leaves_nothing_to_train():
    class Block(layers.CNNBlockBase):
        def __init__(self) -> None:
            super().__init__(1, 2, 1)
            self.conv = layers.Conv2d(1, 2, 1, norm=nn.BatchNorm2d(2))

    block = Block().freeze()
    assert not any(p.requires_grad for p in block.parameters())
    assert isinstance(block.conv.norm, FrozenBatchNorm2d)


def test_a_depthwise_separable_convolution_has_one_group_per_channel():
    conv = layers.DepthwiseSeparableConv2d(4, 6, norm1="BN", activation2=torch.relu)
    assert conv.depthwise.weight.shape == (4, 1, 3, 3)
    assert conv.pointwise.weight.shape == (6, 4, 1, 1)
    assert conv.depthwise.bias is None
    assert conv(torch.randn(1, 4, 5, 5)).min() >= 0


class TestNms:
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 9], [20, 20, 30, 30]])
    scores = torch.tensor([0.5, 0.9, 0.7])

    def test_nms_keeps_the_better_of_two_overlapping_boxes(self):
        keep = layers.batched_nms(self.boxes, self.scores, torch.zeros(3, dtype=torch.long), 0.5)
        assert keep.tolist() == [1, 2]

    def test_groups_do_not_suppress_each_other(self):
        keep = layers.batched_nms(self.boxes, self.scores, torch.tensor([0, 1, 0]), 0.5)
        assert keep.tolist() == [1, 2, 0]

    def test_batched_nms_separates_groups_in_half_precision(self):
        boxes = self.boxes.half() + 500
        keep = layers.batched_nms(boxes, self.scores, torch.tensor([0, 900, 0]), 0.5)
        assert keep.tolist() == [1, 2, 0]

    def test_nms_of_no_boxes_is_empty(self):
        none = torch.zeros(0)
        assert layers.batched_nms(torch.zeros(0, 4), none, none.long(), 0.5).tolist() == []


class TestIouLosses:
    one = torch.tensor([[0.0, 0, 2, 2]])
    other = torch.tensor([[2.0, 0, 4, 2]])  # touches it: IoU 0, centres 2 apart, hull 4 x 2

    def test_diou_adds_the_distance_of_the_centres(self):
        loss = layers.diou_loss(self.one, self.other)
        assert loss.tolist() == pytest.approx([1 + 4 / 20])

    def test_ciou_of_equal_shapes_is_diou(self):
        assert layers.ciou_loss(self.one, self.other).tolist() == pytest.approx([1.2])

    def test_equal_boxes_have_no_loss(self):
        assert layers.ciou_loss(self.one, self.one, reduction="sum").item() == pytest.approx(
            0, abs=1e-6
        )

    def test_the_mean_over_no_boxes_is_zero(self):
        none = torch.zeros(0, 4)
        assert layers.diou_loss(none, none, reduction="mean").item() == 0


class TestPasteMasks:
    def test_a_full_mask_fills_its_box(self):
        pasted = layers.paste_masks_in_image(
            torch.ones(1, 28, 28), torch.tensor([[2.0, 1, 5, 4]]), (6, 8)
        )
        expected = torch.zeros(1, 6, 8, dtype=torch.bool)
        expected[0, 1:4, 2:5] = True
        assert torch.equal(pasted, expected)

    def test_a_mask_is_clipped_at_the_border_of_the_image(self):
        pasted = layers.paste_masks_in_image(
            torch.ones(1, 28, 28), torch.tensor([[-2.0, -2, 2, 9]]), (4, 4)
        )
        assert pasted[0].sum().item() == 2 * 4

    def test_a_negative_threshold_keeps_probabilities_as_bytes(self):
        pasted = layers.paste_masks_in_image(
            torch.full((1, 28, 28), 0.5), torch.tensor([[0.0, 0, 4, 4]]), (4, 4), threshold=-1
        )
        assert pasted.dtype == torch.uint8
        assert pasted[0, 2, 2].item() == 127

    def test_pasting_no_masks_returns_an_empty_stack(self):
        pasted = layers.paste_masks_in_image(torch.zeros(0, 28, 28), torch.zeros(0, 4), (4, 5))
        assert pasted.shape == (0, 4, 5)

    @pytest.mark.skipif(provider() == "official", reason="the official one raises")
    def test_a_mask_outside_of_the_image_is_empty(self):
        beside = torch.tensor([[-9.0, -9, -5, -5], [40.0, 40, 50, 50]])
        assert not layers.paste_masks_in_image(torch.ones(2, 28, 28), beside, (6, 8)).any()


class TestRoiAlign:
    features = torch.arange(25.0).reshape(1, 1, 5, 5)

    def test_an_aligned_box_of_one_pixel_is_that_pixel(self):
        roi = torch.tensor([[0.0, 1, 2, 2, 3]])  # column 1, row 2
        assert layers.ROIAlign(1, 1.0, 1, aligned=True)(self.features, roi).item() == 11

    def test_unaligned_roi_align_samples_half_a_pixel_further(self):
        roi = torch.tensor([[0.0, 1, 2, 2, 3]])
        out = layers.ROIAlign((1, 1), 1.0, 1, aligned=False)(self.features, roi)
        assert out.item() == pytest.approx(11 + 0.5 + 2.5)


@pytest.mark.skipif(provider() == "official", reason="the official one has no CPU kernels")
class TestDeformConv:
    def test_a_deformable_convolution_without_offsets_is_a_convolution(self):
        conv = layers.DeformConv(2, 3, kernel_size=3, stride=2, padding=1)
        x = torch.randn(1, 2, 8, 8)
        out = conv(x, torch.zeros(1, 18, 4, 4))
        plain = nn.functional.conv2d(x, conv.weight, stride=2, padding=1)
        torch.testing.assert_close(out, plain, atol=1e-5, rtol=1e-5)

    def test_an_offset_of_one_pixel_samples_the_next_one(self):
        conv = layers.DeformConv(1, 1, kernel_size=1)
        nn.init.ones_(conv.weight)
        offset = torch.zeros(1, 2, 1, 3)
        offset[:, 1] = 1  # x
        out = conv(torch.tensor([[[[1.0, 2.0, 3.0]]]]), offset)
        assert out.flatten().tolist() == [2, 3, 0]

    def test_the_modulation_scales_the_samples_but_not_the_bias(self):
        conv = layers.ModulatedDeformConv(1, 1, kernel_size=1)
        nn.init.ones_(conv.weight)
        nn.init.constant_(conv.bias, 10.0)
        out = conv(
            torch.full((1, 1, 1, 1), 4.0), torch.zeros(1, 2, 1, 1), torch.full((1, 1, 1, 1), 0.5)
        )
        assert out.item() == 12

    def test_a_wrong_number_of_offsets_is_an_error(self):
        with pytest.raises(ValueError, match="expected 18"):
            layers.DeformConv(1, 1, kernel_size=3)(torch.zeros(1, 1, 4, 4), torch.zeros(1, 9, 4, 4))
