"""Published checkpoints load; those of another model of the family are refused by name."""

from pathlib import Path

import pytest
import torch

import d2ext
from d2ext.checkpoint import Checkpointer
from d2ext.config import load_config
from d2ext.errors import WeightsError
from d2ext.projects.detr.parity import read_case
from detectron2.modeling import build_model

ROOT = Path(d2ext.__file__).parents[1]
RECIPES = {
    "detr_r50": "detr_r50",
    "conditional_detr_r50": "conditional_detr_r50",
    "dab_detr_r50": "dab_detr_r50",
}


@pytest.fixture
def published(tmp_path):
    """Return a file of made-up weights in the published layout of a case."""

    def published(case: str) -> str:
        path = tmp_path / f"{case}.pth"
        torch.save({"model": read_case(ROOT / "tests/parity" / case).published()}, path)
        return str(path)

    return published


def model_of(recipe: str, *options: str):
    path = ROOT / f"projects/detr/configs/coco/{recipe}.yaml"
    return build_model(load_config(path, ["MODEL.DEVICE", "cpu", *options]))


@pytest.mark.parametrize(("case", "recipe"), RECIPES.items())
def test_a_published_file_fills_the_whole_model(case, recipe, published):
    model = model_of(recipe, "MODEL.DETR.NUM_CLASSES", "91")
    Checkpointer(model).load(published(case), checkpointables=[], strict=True)


def test_the_class_head_alone_is_new_for_other_classes(published, caplog):
    model = model_of("detr_r50", "MODEL.DETR.NUM_CLASSES", "3")
    before = model.class_embed.weight.clone()
    Checkpointer(model).load(published("detr_r50"), checkpointables=[])
    assert torch.equal(model.class_embed.weight, before)
    assert "2 left fresh, of another shape: class_embed.weight (92, 256)" in caplog.text


@pytest.mark.parametrize(
    ("case", "name", "architecture"),
    [
        ("dab_detr_r50", "DAB-DETR", "DABDETR"),
        ("deformable_detr_r50", "Deformable DETR", "DeformableDETR"),
        ("dino_r50_4scale", "DINO", "DINO"),
    ],
)
def test_weights_of_another_variant_are_refused_by_name(case, name, architecture, published):
    expected = f"weights of {name}, but MODEL.META_ARCHITECTURE is ConditionalDETR: set it to "
    with pytest.raises(WeightsError, match=f"{expected}{architecture}"):
        Checkpointer(model_of("conditional_detr_r50")).load(published(case), checkpointables=[])
