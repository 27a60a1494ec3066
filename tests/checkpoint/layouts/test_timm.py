import pytest
import timm

from d2ext.checkpoint.conversion import convert
from d2ext.modeling.backbone import TimmBackbone


@pytest.mark.parametrize(
    "name", ["resnet18", "convnext_atto", "regnetx_002", "mobilenetv3_small_050", "densenet121"]
)
def test_timms_files_are_for_timms_backbones(name: str) -> None:
    backbone = TimmBackbone(
        name=name, in_channels=3, out_features=["stride8", "stride32"], pretrained=False
    )
    state = {f"backbone.bottom_up.{key}": value for key, value in backbone.state_dict().items()}
    match = convert(timm.create_model(name).state_dict(), state).match(state)
    assert match.complete
    assert len(match.unexpected) <= 6  # the classifier
