import json
from argparse import Namespace

import pytest
import torch

from d2ext.cli.train import argument_parser
from d2ext.config.load import num_classes_keys
from d2ext.engine import prepare as prepare_module
from d2ext.engine.prepare import prepare, saved_seed
from d2ext.errors import ConfigError, DataError, OutputError, UserError, WeightsError
from detectron2.data import DatasetCatalog, MetadataCatalog
from tests.helpers.training import CLASSES, write_data

CONFIG = "configs/dyhead_swint.yaml"


@pytest.fixture(autouse=True)
def _names_are_free():
    yield
    for name in {"train", "train_2", "val", "test"} & set(DatasetCatalog.list()):
        DatasetCatalog.remove(name)


def parse(folder, flags="", overrides=()):
    words = ["--config-file", CONFIG, *flags.split(), "MODEL.DEVICE", "cpu"]
    return argument_parser().parse_args([*words, "OUTPUT_DIR", str(folder / "out"), *overrides])


def data(folder, name="data", categories=CLASSES):
    """The flag for a small data set whose categories have these names."""
    write_data(folder / name)
    path = folder / name / "annotations.json"
    document = json.loads(path.read_text(encoding="utf-8"))
    document["categories"] = [{"id": n + 1, "name": c} for n, c in enumerate(categories)]
    path.write_text(json.dumps(document), encoding="utf-8")
    return f"{path}:{folder / name}"


def test_nothing_is_auto_afterwards_and_class_counts_are_those_of_the_data(tmp_path):
    cfg = prepare(parse(tmp_path, f"--train {data(tmp_path)} --val {data(tmp_path)}")).cfg
    assert cfg.AUTO == []
    assert set(num_classes_keys(cfg).values()) == {len(CLASSES)}
    assert cfg.DATASETS.TRAIN == ("train",)
    assert cfg.DATASETS.TEST == ("val",)


def test_the_built_in_set_is_named_with_the_flags_that_replace_it(tmp_path):
    notes = "\n".join(prepare(parse(tmp_path)).notes)
    assert "the built-in set of shapes" in notes
    assert "--train PATH --val PATH" in notes


def test_own_training_data_without_validation_data_are_not_evaluated_on_shapes(tmp_path):
    prepared = prepare(parse(tmp_path, f"--train {data(tmp_path)}"))
    assert prepared.cfg.DATASETS.TEST == ()
    assert any("not evaluated" in note for note in prepared.notes)


def test_flags_may_be_repeated(tmp_path):
    flags = f"--train {data(tmp_path, 'a')} --train {data(tmp_path, 'b')}"
    assert prepare(parse(tmp_path, flags)).cfg.DATASETS.TRAIN == ("train", "train_2")


def test_a_negative_seed_becomes_a_drawn_one(tmp_path):
    assert prepare(parse(tmp_path, overrides=("SEED", "-1"))).cfg.SEED >= 0


def test_evaluation_leaves_the_training_folder_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    weights = tmp_path / "weights.pth"
    torch.save({"model": {}, "thing_classes": list(CLASSES)}, weights)
    args = parse(tmp_path, f"--eval-only --val {data(tmp_path)}", ("MODEL.WEIGHTS", str(weights)))
    args.opts = [word for word in args.opts if word not in ("OUTPUT_DIR", str(tmp_path / "out"))]
    assert prepare(args).cfg.OUTPUT_DIR.replace("\\", "/") == "output/eval"


def test_evaluation_takes_auto_values_from_the_weights(tmp_path):
    weights = tmp_path / "weights.pth"
    torch.save({"model": {}, "config": "INPUT: {MIN_SIZE_TEST: 96}"}, weights)
    flags = f"--eval-only --val {data(tmp_path)}"
    cfg = prepare(parse(tmp_path, flags, ("MODEL.WEIGHTS", str(weights)))).cfg
    assert cfg.INPUT.MIN_SIZE_TEST == 96


def test_evaluation_data_with_other_classes_than_the_weights_are_refused(tmp_path):
    weights = tmp_path / "weights.pth"
    torch.save({"model": {}, "thing_classes": ["dot", "cat"]}, weights)
    flags = f"--eval-only --val {data(tmp_path)}"
    with pytest.raises(WeightsError, match=r"cat.*cross"):
        prepare(parse(tmp_path, flags, ("MODEL.WEIGHTS", str(weights))))


def test_splits_with_other_classes_are_refused(tmp_path):
    flags = f"--train {data(tmp_path)} --val {data(tmp_path, 'other', ('dot', 'cat'))}"
    with pytest.raises(DataError, match=r"Only in val: cat; only in the training data: cross"):
        prepare(parse(tmp_path, flags))


def test_splits_with_the_same_classes_in_another_order_are_matched_by_name(tmp_path):
    flags = f"--train {data(tmp_path)} --val {data(tmp_path, 'other', CLASSES[::-1])}"
    prepared = prepare(parse(tmp_path, flags))
    assert list(CLASSES) == prepared.cfg.DATASETS.CLASSES
    assert any("val: classes matched by name" in note for note in prepared.notes)
    DatasetCatalog.get("val")
    assert MetadataCatalog.get("val").thing_classes == list(CLASSES)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (("MODEL.META_ARCHITECTURE", "ATS"), "did you mean ATSS"),
        (("MODEL.BACKBONE.NAME", "DyHed"), "did you mean DyHead"),
        (("DATASETS.TRAIN", "('shapes_tran',)"), "did you mean shapes_train"),
        (("MODEL.ATSS.NUM_CLASSES", "80"), "MODEL.ATSS.NUM_CLASSES is 80, but the data has 6"),
    ],
)
def test_an_unknown_name_or_a_wrong_count_is_refused(tmp_path, overrides, said):
    with pytest.raises(ConfigError, match=said):
        prepare(parse(tmp_path, overrides=overrides))


def test_an_output_folder_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "out").write_text("mine", encoding="utf-8")
    with pytest.raises(OutputError, match="OUTPUT_DIR"):
        prepare(parse(tmp_path))
    assert (tmp_path / "out").read_text(encoding="utf-8") == "mine"


def test_evaluation_without_data_is_refused(tmp_path):
    weights = tmp_path / "weights.pth"
    torch.save({"model": {}}, weights)
    overrides = ("DATASETS.TEST", "()", "MODEL.WEIGHTS", str(weights))
    args = parse(tmp_path, "--eval-only", overrides)
    assert isinstance(args, Namespace)
    with pytest.raises(ConfigError, match="--val"):
        prepare(args)


@pytest.mark.parametrize("address", ["none.pth", "http://127.0.0.1:9/none.pth"])
def test_weights_that_are_not_there_are_named_before_data_are_read(tmp_path, address, monkeypatch):
    monkeypatch.setenv("FVCORE_CACHE", str(tmp_path))
    with pytest.raises(WeightsError, match=r"none\.pth: (no such file|cannot be downloaded)"):
        prepare(parse(tmp_path, "--train no.json:no", ("MODEL.WEIGHTS", address)))


def test_a_folder_with_splits_trains_and_evaluates_and_says_so(tmp_path):
    folder = tmp_path / "data"
    for split in ("train", "valid"):
        write_data(folder / split)
        (folder / split / "annotations.json").rename(folder / split / "_annotations.coco.json")
    prepared = prepare(parse(tmp_path, f"--train {folder}"))
    assert prepared.cfg.DATASETS.TEST == ("val",)
    notes = "\n".join(prepared.notes)
    assert f"{folder}: has a split val, too" in notes
    assert f"{folder} (train): COCO, " in notes


def test_a_share_of_the_training_images_is_held_out(tmp_path):
    prepared = prepare(parse(tmp_path, f"--train {data(tmp_path)} --val 0.25"))
    assert any("held out for evaluation: 25%" in note for note in prepared.notes)
    train, val = (DatasetCatalog.get(name) for name in ("train", "val"))
    names = [{image["file_name"] for image in part} for part in (train, val)]
    assert not names[0] & names[1]
    assert len(names[1]) == round(0.25 * (len(train) + len(val)))


@pytest.mark.parametrize(
    ("flags", "said"),
    [("--val 0.2", "give that, too"), ("--train {data} --val 2", "between 0 and 1")],
)
def test_a_share_of_nothing_or_beyond_is_refused(tmp_path, flags, said):
    with pytest.raises(DataError, match=said):
        prepare(parse(tmp_path, flags.format(data=data(tmp_path))))


def test_test_data_are_kept_for_the_end(tmp_path):
    flags = f"--train {data(tmp_path)} --val {data(tmp_path)} --test {data(tmp_path)}"
    cfg = prepare(parse(tmp_path, flags)).cfg
    assert (cfg.DATASETS.TEST, cfg.DATASETS.FINAL) == (("val",), ("test",))


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (("MODEL.META_ARCHITECTURE", "SemanticSegmentor"), "learns semantic masks, and the data"),
        (
            ("MODEL.META_ARCHITECTURE", "GeneralizedRCNN", "MODEL.KEYPOINT_ON", "True"),
            "MODEL.KEYPOINT_ON True learns keypoints",
        ),
    ],
)
def test_a_model_that_learns_what_the_data_lack_is_refused(tmp_path, overrides, said):
    with pytest.raises(ConfigError, match=said):
        prepare(parse(tmp_path, f"--train {data(tmp_path)}", overrides))


@pytest.mark.parametrize("dumped", ["", "SEED: a", "- 1", "A: &a {b: *a}", "SEED: " + "9" * 5000])
def test_a_config_in_a_checkpoint_that_d2ext_did_not_write_is_named(dumped):
    with pytest.raises(UserError, match="the config in the checkpoint"):
        saved_seed(dumped)


def test_arguments_stay_as_they_were(tmp_path):
    args = parse(tmp_path, f"--train {data(tmp_path)}")
    before = dict(vars(args))
    prepare(args)
    assert vars(args) == before


def test_weights_are_opened_once(tmp_path, monkeypatch):
    weights = tmp_path / "weights.pth"
    config = "INPUT: {MIN_SIZE_TEST: 96}"
    torch.save({"model": {}, "thing_classes": list(CLASSES), "config": config}, weights)
    opened = []
    read = prepare_module.read_metadata
    monkeypatch.setattr(prepare_module, "read_metadata", lambda p: opened.append(p) or read(p))
    flags = f"--eval-only --val {data(tmp_path)}"
    prepare(parse(tmp_path, flags, ("MODEL.WEIGHTS", str(weights))))
    assert opened == [str(weights)]


def test_a_malformed_rule_for_parameter_groups_is_refused_before_data_are_read(tmp_path):
    rules = ("SOLVER.PARAM_GROUPS", "[{'patern': 'backbone.*'}]")
    with pytest.raises(ConfigError, match=r"SOLVER\.PARAM_GROUPS: .* is not a rule"):
        prepare(parse(tmp_path, "--train no.json:no", rules))


def test_without_a_config_the_recipe_follows_the_data(tmp_path, monkeypatch):
    monkeypatch.setattr("d2ext.engine.pretrained.file_here", lambda entry: None)
    words = ["--train", data(tmp_path), "--val", "0.25", "MODEL.DEVICE", "cpu"]
    words += ["OUTPUT_DIR", str(tmp_path / "out"), "SOLVER.MAX_EPOCHS", "7"]
    prepared = prepare(argument_parser().parse_args(words))
    notes = "\n".join(prepared.notes)
    assert "config: configs/dyhead_regnetx200m.yaml (boxes in" in notes
    assert "--config-file names another" in notes
    assert prepared.cfg.MODEL.TIMM.NAME == "regnetx_002"
    assert prepared.cfg.DATASETS.TRAIN == ("train",)
    assert prepared.cfg.DATASETS.TEST == ("val",)
    assert str(tmp_path / "out") == prepared.cfg.OUTPUT_DIR


def test_the_first_line_says_what_the_run_starts_from(tmp_path):
    assert prepare(parse(tmp_path)).notes[0].startswith("weights: random: expect")
    given = ("MODEL.WEIGHTS", "")
    assert prepare(parse(tmp_path, "", given)).notes[0] == "weights: random"
