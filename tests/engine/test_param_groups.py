import json
import re
from collections import Counter
from pathlib import Path

import pytest
import timm
import torch
import yaml
from torch import nn

import d2ext.modeling  # noqa: F401  (registers)
from d2ext.config import get_cfg, load_config
from d2ext.engine.param_groups import build_param_groups, layer_distances
from d2ext.errors import ConfigError
from detectron2.config import CfgNode
from detectron2.modeling import ViT, build_backbone, build_model

# Learning rate and weight decay of every parameter, digits in names replaced by "*", as computed
# before PARAM_GROUPS existed, when the keys BACKBONE_MULTIPLIER and WEIGHT_DECAY_POSITION did this.
GOLDEN = json.loads(Path(__file__).with_name("param_groups.json").read_text(encoding="utf-8"))
ANCHORS = ("MODEL.ANCHOR_GENERATOR.SIZES", "[[32], [64], [128], [256], [512]]")


class Detector(nn.Module):
    """A bottom-up backbone in a pyramid in a neck, with a norm, biases and a position table."""

    def __init__(self) -> None:
        super().__init__()
        bottom_up = nn.Sequential(nn.Conv2d(3, 4, 1), nn.LayerNorm(4))
        bottom_up.relative_position_bias_table = nn.Parameter(torch.zeros(9))
        pyramid = nn.ModuleDict({"bottom_up": bottom_up, "lateral": nn.Conv2d(4, 4, 1)})
        self.backbone = nn.ModuleDict({"backbone": pyramid})
        self.head = nn.Linear(4, 2)


def config(*rules: object, **solver: object) -> CfgNode:
    cfg = get_cfg()
    cfg.SOLVER.BASE_LR, cfg.SOLVER.WEIGHT_DECAY = 0.1, 0.05
    cfg.SOLVER.PARAM_GROUPS = list(rules)
    for key, value in solver.items():
        cfg.SOLVER[key] = value
    return cfg


def settings(cfg: CfgNode, model: nn.Module) -> dict[str, tuple[float, float]]:
    """Learning rate and weight decay by name."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = build_param_groups(cfg, model)
    return {names[id(p)]: (g["lr"], g["weight_decay"]) for g in groups for p in g["params"]}


@pytest.mark.parametrize("name", GOLDEN)
def test_every_parameter_of_a_recipe_has_the_rate_and_decay_it_always_had(name: str) -> None:
    options = ["SOLVER.BASE_LR", "0.0002", "MODEL.DEVICE", "cpu", "MODEL.BACKBONE.FREEZE_AT", "0"]
    cfg = load_config(name, [*options, *(ANCHORS if "dyhead" in name else ())])
    found: dict[str, Counter] = {}
    for parameter, (rate, decay) in settings(cfg, build_model(cfg)).items():
        collapsed = re.sub(r"\d+", "*", parameter)
        found.setdefault(f"{rate} {decay}", Counter())[collapsed] += 1
    assert found == GOLDEN[name]


def test_norms_and_biases_have_the_decay_of_detectron2s_keys() -> None:
    found = settings(config(WEIGHT_DECAY_NORM=0.0, WEIGHT_DECAY_BIAS=0.01), Detector())
    below = "backbone.backbone.bottom_up."
    assert found[below + "0.weight"] == (0.1, 0.05)
    assert found[below + "0.bias"] == (0.1, 0.01)
    assert found[below + "1.weight"] == (0.1, 0.0)
    assert found["head.weight"] == (0.1, 0.05)
    assert found["head.bias"] == (0.1, 0.01)


def test_biases_learn_at_detectron2s_factor() -> None:
    rates = settings(config(BIAS_LR_FACTOR=2.0), Detector())
    assert (rates["head.bias"][0], rates["head.weight"][0]) == (0.2, 0.1)


def test_a_rule_sets_the_decay_of_the_parameters_that_match() -> None:
    rule = {"pattern": "*.relative_position_bias_table", "weight_decay": 0.02}
    found = settings(config(rule), Detector())
    changed = [name for name, (_, decay) in found.items() if decay == 0.02]
    assert changed == ["backbone.backbone.bottom_up.relative_position_bias_table"]


def test_a_rule_multiplies_the_learning_rate_of_the_parameters_that_match() -> None:
    found = settings(config({"pattern": "*.bottom_up.*", "lr_factor": 0.1}), Detector())
    slow = {name for name, (rate, _) in found.items() if rate == pytest.approx(0.01)}
    assert slow == {name for name in found if "bottom_up" in name}


def test_the_last_rule_that_sets_a_value_wins_and_leaves_the_other_value() -> None:
    first = {"pattern": "backbone.*", "lr_factor": 0.1, "weight_decay": 0.5}
    found = settings(config(first, {"pattern": "*.lateral.*", "lr_factor": 0.5}), Detector())
    assert found["backbone.backbone.lateral.weight"] == pytest.approx((0.05, 0.5))
    assert found["backbone.backbone.bottom_up.0.weight"] == pytest.approx((0.01, 0.5))


def test_parameters_of_equal_settings_share_a_group() -> None:
    rules = [{"pattern": name, "lr_factor": 0.1} for name in ("*.lateral.*", "head.*")]
    groups = build_param_groups(config(*rules, WEIGHT_DECAY_NORM=0.05), Detector())
    assert [len(group["params"]) for group in groups] == [1, 4, 4]


def test_position_tables_do_not_decay_unless_a_rule_says_so() -> None:
    name = "backbone.backbone.bottom_up.relative_position_bias_table"
    assert settings(config(), Detector())[name] == (0.1, 0.0)


def test_frozen_parameters_are_in_no_group_and_matched_by_no_rule() -> None:
    model = Detector()
    model.head.requires_grad_(False)
    assert not any(name.startswith("head.") for name in settings(config(), model))
    with pytest.raises(ConfigError, match="matches no trainable parameter"):
        build_param_groups(config({"pattern": "head.*", "lr_factor": 0.1}), model)


def test_a_pattern_that_matches_nothing_is_refused_with_similar_names() -> None:
    with pytest.raises(ConfigError, match=r"'\*.botom_up.\*' matches no .* names: bottom_up"):
        build_param_groups(config({"pattern": "*.botom_up.*", "lr_factor": 0.1}), Detector())


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ({"lr_factor": 0.1}, "is not a rule"),
        ("backbone", "is not a rule"),
        ({"pattern": "*", "lr_facter": 0.1}, "unknown field 'lr_facter'.*did you mean lr_factor"),
        ({"pattern": "*", "weight_decay": "none"}, "must be a number of at least 0"),
        ({"pattern": "*", "lr_factor": -1}, "must be a number of at least 0"),
    ],
)
def test_a_malformed_rule_is_refused(rule: object, said: str) -> None:
    with pytest.raises(ConfigError, match=f"SOLVER.PARAM_GROUPS: .*{said}"):
        build_param_groups(config(rule), Detector())


def test_rules_survive_a_dump_and_the_command_line(tmp_path: Path) -> None:
    rules = [{"pattern": "backbone.*", "lr_factor": 0.1}]
    path = tmp_path / "config.yaml"
    path.write_text("{}", encoding="utf-8")
    cfg = load_config(path, ["SOLVER.PARAM_GROUPS", str(rules)])
    assert rules == cfg.SOLVER.PARAM_GROUPS
    assert yaml.safe_load(cfg.dump())["SOLVER"]["PARAM_GROUPS"] == rules


def distances(model: nn.Module) -> dict[str, int]:
    return layer_distances([name for name, _ in model.named_parameters()], "*")


def test_layers_of_a_swin_are_its_blocks_with_the_patch_merging_after_them() -> None:
    cfg = get_cfg()
    cfg.MODEL.BACKBONE.NAME = "SwinTransformer"
    cfg.MODEL.SWIN.DEPTHS = [1, 2, 1, 1]
    found = distances(build_backbone(cfg))
    assert found["patch_embed.proj.weight"] == 6
    assert found["layers.0.blocks.0.attn.qkv.weight"] == 5
    assert found["layers.0.downsample.reduction.weight"] == 5
    assert found["layers.1.blocks.0.mlp.fc1.bias"] == 4
    assert found["layers.3.blocks.0.norm1.weight"] == 1
    assert found["norm3.weight"] == 0


def test_layers_of_a_vit_are_its_blocks_and_the_embeddings() -> None:
    found = distances(ViT(embed_dim=8, depth=3, num_heads=2, img_size=32))
    assert (found["pos_embed"], found["patch_embed.proj.weight"]) == (4, 4)
    assert [found[f"blocks.{n}.mlp.fc1.weight"] for n in range(3)] == [3, 2, 1]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("swin_tiny_patch4_window7_224", {"patch_embed.proj": 13, "layers_3.blocks.1.mlp.fc1": 1}),
        ("convnext_atto", {"stem_0": 13, "stages_0.blocks.1.conv_dw": 11}),
        ("resnet18", {"conv1": 9, "layer1.0.conv1": 8, "layer4.1.conv2": 1}),
        ("regnetx_002", {"stem.conv": 14, "s1.b1.conv1.conv": 13, "s4.b7.conv3.conv": 1}),
        ("efficientnet_lite0", {"conv_stem": 17, "blocks.0.0.conv_dw": 16}),
    ],
)
def test_layers_of_timms_backbones_are_their_blocks(name: str, expected: dict) -> None:
    found = distances(timm.create_model(name, features_only=True, pretrained=False))
    assert {layer: found[f"{layer}.weight"] for layer in expected} == expected


def test_layer_decay_slows_layers_by_their_distance_from_the_top() -> None:
    model = nn.ModuleDict({"backbone": ViT(embed_dim=8, depth=2, num_heads=2, img_size=32)})
    model["head"] = nn.Linear(2, 2)
    rule = {"pattern": "*", "lr_factor": 0.5, "layer_decay": 0.8}
    rates = {name: rate for name, (rate, _) in settings(config(rule), model).items()}
    assert rates["head.weight"] == pytest.approx(0.05)
    assert rates["backbone.blocks.1.mlp.fc1.weight"] == pytest.approx(0.05 * 0.8)
    assert rates["backbone.blocks.0.mlp.fc1.weight"] == pytest.approx(0.05 * 0.8**2)
    assert rates["backbone.pos_embed"] == pytest.approx(0.05 * 0.8**3)


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["head.weight"], "blocks of: none"),
        (["a.blocks.0.w", "b.blocks.0.w"], "blocks of: a., b."),
    ],
)
def test_layer_decay_without_one_backbone_is_refused(names: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        layer_distances(names, "*")
