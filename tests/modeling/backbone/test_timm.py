import pytest
import torch

from d2ext.errors import ConfigError
from d2ext.modeling.backbone import TimmBackbone


def build(name: str, *out_features: str) -> TimmBackbone:
    return TimmBackbone(name=name, in_channels=3, out_features=out_features, pretrained=False)


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("resnet10t", (64, 64)),
        ("mobilenetv3_small_050", (96, 160)),
        ("convnext_atto", (64, 96)),
        ("swin_tiny_patch4_window7_224", (96, 160)),  # made for one size, and channels last
    ],
)
def test_maps_have_the_strides_of_their_names(name: str, size: tuple[int, int]):
    model = build(name, "stride8", "stride32")
    with torch.no_grad():
        maps = model.eval()(torch.randn(1, 3, *size))
    assert list(maps) == ["stride8", "stride32"]
    for feature, shape in model.output_shape().items():
        sides = [side // shape.stride for side in size]
        assert maps[feature].shape == (1, shape.channels, *sides)


def test_unknown_model_is_refused_with_similar_names():
    with pytest.raises(ConfigError, match=r"no model 'resnet17'; similar names: .*resnet"):
        build("resnet17", "stride8")


def test_unknown_feature_is_refused_with_the_known_ones():
    with pytest.raises(ConfigError, match=r"no feature map 'stride3'; it has .*stride32"):
        build("resnet10t", "stride3")
