"""Published checkpoints of models with deformable attention, under our names."""

import json
from pathlib import Path

import pytest
import torch

import d2ext.projects.detr  # noqa: F401  (register)
from d2ext.checkpoint.conversion import convert
from d2ext.config import load_config
from d2ext.projects.detr import deformable_layouts as layouts
from d2ext.projects.detr.coco_classes import IDS, select_coco_rows
from detectron2.data import MetadataCatalog
from detectron2.modeling import build_model

CASES = Path(__file__).parents[4] / "tests/parity"
COCO = "projects/detr/configs/coco"


def published(case: str) -> dict[str, torch.Tensor]:
    """The names and shapes of an official checkpoint; values are of no matter."""
    entries = json.loads((CASES / case / "entries.json").read_text(encoding="utf-8"))
    return {name: torch.zeros(shape) for name, shape, _ in entries}


@pytest.fixture(scope="module")
def dino() -> dict[str, torch.Tensor]:
    """The state of DINO for COCO's 80 classes, with heads of their own per layer."""
    options = ["MODEL.DEVICE", "cpu", "MODEL.DINO.SHARE_HEADS", "False"]
    return build_model(load_config(f"{COCO}/dino_r50_4scale_12ep.yaml", options)).state_dict()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "recipe", "queries", "layout"),
    [
        ("deformable_detr_r50", "deformable_detr_r50", 300, layouts.DEFORMABLE_DETR),
        ("dino_r50_4scale", "dino_r50_4scale_12ep", 100, layouts.DINO),
    ],
)
def test_an_official_file_fills_a_model_for_the_80_classes_of_coco(case, recipe, queries, layout):
    options = ["MODEL.DEVICE", "cpu", "MODEL.DETR.NUM_QUERIES", str(queries)]
    state = build_model(load_config(f"{COCO}/{recipe}.yaml", options)).state_dict()
    conversion = convert(published(case), state)
    found = conversion.match(state)
    assert conversion.layout is layout
    assert found.complete
    assert found.unexpected == []
    assert "class_embed.0.weight" in found.selected


def test_ids_are_those_of_coco_in_the_order_of_its_classes():
    ids = MetadataCatalog.get("coco_2017_val").thing_dataset_id_to_contiguous_id
    assert sorted(ids, key=ids.get) == IDS


def test_rows_beyond_the_ids_are_kept():
    rows = torch.arange(92.0)[:, None]
    assert select_coco_rows("label_enc.weight", rows, (81, 1))[-2:].tolist() == [[90.0], [91.0]]
    assert select_coco_rows("class_embed.0.bias", rows[:91], (80, 1))[0].tolist() == [1.0]


@pytest.mark.parametrize(
    ("name", "rows"), [("class_embed.0.weight", 7), ("query_embed.weight", 80)]
)
def test_heads_of_other_classes_and_other_tensors_are_left_alone(name, rows):
    tensor = torch.zeros(91, 4)
    assert select_coco_rows(name, tensor, (rows, 4)) is tensor


@pytest.mark.parametrize(
    ("layout", "theirs", "ours"),
    [
        ("DEFORMABLE_DETR", "transformer.level_embed", "levels.level_embed"),
        ("DEFORMABLE_DETR", "input_proj.3.0.weight", "levels.input_proj.3.0.weight"),
        ("DEFORMABLE_DETR", "transformer.reference_points.bias", "reference_points.bias"),
        ("DEFORMABLE_DETR", "transformer.enc_output_norm.bias", "proposals.enc_output_norm.bias"),
        ("DEFORMABLE_DETR", "transformer.pos_trans.weight", "pos_trans.weight"),
        (
            "DAB_DEFORMABLE_DETR",
            "transformer.decoder.query_scale.layers.0.weight",
            "decoder.anchor_position.query_scale.layers.0.weight",
        ),
        ("DINO", "transformer.tgt_embed.weight", "tgt_embed.weight"),
        (
            "DINO",
            "transformer.enc_out_bbox_embed.layers.2.bias",
            "enc_out_bbox_embed.layers.2.bias",
        ),
        (
            "DINO",
            "backbone.0.layers.0.blocks.1.norm1.bias",
            "backbone.layers.0.blocks.1.norm1.bias",
        ),
        ("DINO", "backbone.0.body.layer2.0.bn1.bias", "backbone.res3.0.conv1.norm.bias"),
    ],
)
def test_names_of_the_authors(layout, theirs, ours):
    assert getattr(layouts, layout).rename(theirs) == ours


def as_detrex(name: str) -> str:
    """Our name of a parameter of DINO -> detrex's."""
    side, _, rest = name.partition(".layers.")
    if side in ("encoder", "decoder"):
        number, _, rest = rest.partition(".")
        attention = "attentions.0.attn." if side == "decoder" else "attentions.0."
        norms = (
            {"norm1": 0, "norm2": 1} if side == "encoder" else {"norm2": 0, "norm1": 1, "norm3": 2}
        )
        rest = rest.replace("self_attn.", attention).replace("cross_attn.", "attentions.1.")
        rest = rest.replace("feed_forward.linear1.", "ffns.0.layers.0.0.")
        rest = rest.replace("feed_forward.linear2.", "ffns.0.layers.1.")
        for ours, theirs in norms.items():
            rest = rest.replace(f"{ours}.", f"norms.{theirs}.")
        return f"transformer.{side}.layers.{number}.{rest}"
    table = {
        "levels.level_embed": "transformer.level_embeds",
        "levels.input_proj.3.0.": "neck.extra_convs.0.conv.",
        "levels.input_proj.3.1.": "neck.extra_convs.0.norm.",
        **{f"levels.input_proj.{i}.0.": f"neck.convs.{i}.conv." for i in range(3)},
        **{f"levels.input_proj.{i}.1.": f"neck.convs.{i}.norm." for i in range(3)},
        "decoder.anchor_position.": "transformer.decoder.",
        "decoder.norm.": "transformer.decoder.norm.",
        "proposals.": "transformer.",
        "tgt_embed.": "transformer.tgt_embed.",
        "enc_out_class_embed.": "class_embed.6.",
        "enc_out_bbox_embed.": "bbox_embed.6.",
    }
    start = next((start for start in table if name.startswith(start)), "")
    return table.get(start, "") + name.removeprefix(start)


@pytest.mark.slow
def test_a_file_of_detrex_fills_a_model_with_heads_per_layer(dino):
    file = {as_detrex(name): tensor for name, tensor in dino.items()}
    assert "class_embed.6.weight" in file
    file["label_enc.weight"] = file["label_enc.weight"][:-1]  # detrex has no unused row
    conversion = convert(file, dino)
    assert conversion.layout is layouts.DETREX_DINO_4SCALE
    assert conversion.match(dino).complete
    assert conversion.match(dino).unexpected == []
    for name, tensor in dino.items():
        if name != "label_enc.weight":
            assert conversion.weights[name] is tensor, name


def test_the_number_of_scales_of_a_detrex_file_is_told_by_its_feature_maps():
    attention = "transformer.decoder.layers.0.attentions.1.sampling_offsets.weight"
    file = {name: torch.zeros(1) for name in (attention, "label_enc.weight")}
    file |= {f"neck.convs.{i}.conv.weight": torch.zeros(1) for i in range(3)}
    assert layouts.DETREX_DINO_4SCALE.recognise(file)
    assert not layouts.DETREX_DINO_5SCALE.recognise(file)
    file["neck.convs.3.conv.weight"] = torch.zeros(1)
    assert not layouts.DETREX_DINO_4SCALE.recognise(file)
    assert layouts.DETREX_DINO_5SCALE.recognise(file)
