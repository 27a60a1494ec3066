import logging
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from d2ext.checkpoint import Checkpointer, load_for_evaluation
from d2ext.errors import WeightsError


def model(classes: int = 2) -> nn.Module:
    return nn.ModuleDict({"body": nn.Linear(3, 4), "head": nn.Linear(4, classes)})


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_weights_and_metadata_come_back(tmp_path: Path) -> None:
    first, second = model(), model()
    Checkpointer(first, str(tmp_path), metadata={"thing_classes": ["a", "b"]}).save("model_0000001")
    rest = load_for_evaluation(second, tmp_path / "model_0000001.pth")
    assert rest == {"thing_classes": ["a", "b"]}
    assert torch.equal(second["head"].weight, first["head"].weight)


def test_checkpointables_are_restored_on_resume_only(tmp_path: Path) -> None:
    net = model()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.5)
    Checkpointer(net, str(tmp_path), optimizer=optimizer).save("model_0000001", iteration=1)
    other = torch.optim.SGD(net.parameters(), lr=0.1)
    checkpointer = Checkpointer(net, str(tmp_path), optimizer=other)
    checkpointer.resume_or_load(str(tmp_path / "model_0000001.pth"), resume=False)
    assert other.param_groups[0]["lr"] == 0.1
    assert checkpointer.resume_or_load("", resume=True)["iteration"] == 1
    assert other.param_groups[0]["lr"] == 0.5


def test_only_the_newest_of_this_run_are_kept(tmp_path: Path) -> None:
    Checkpointer(model(), str(tmp_path)).save("model_0000099")  # an earlier run's
    checkpointer = Checkpointer(model(), str(tmp_path), keep=2)
    for iteration in range(4):
        checkpointer.save(f"model_{iteration:07d}")
        checkpointer.save_weights("model_best", {"a": torch.zeros(1)})
    kept = ["model_0000002.pth", "model_0000003.pth", "model_0000099.pth", "model_best.pth"]
    assert names(tmp_path) == ["last_checkpoint", *kept]


def test_a_resumed_run_goes_on_removing(tmp_path: Path) -> None:
    Checkpointer(model(), str(tmp_path), keep=2).save("model_0000000")
    checkpointer = Checkpointer(model(), str(tmp_path), keep=2)
    checkpointer.resume_or_load("", resume=True)
    checkpointer.save("model_0000001")
    checkpointer.save("model_0000002")
    assert names(tmp_path) == ["last_checkpoint", "model_0000001.pth", "model_0000002.pth"]


@pytest.mark.parametrize("names", [["../precious"], ["/precious"], [".."], [7], 7, ["a\\b"]])
def test_a_checkpoint_that_names_files_elsewhere_is_refused(tmp_path: Path, names: object) -> None:
    run, precious = tmp_path / "run", tmp_path / "precious.pth"
    precious.write_text("mine", encoding="utf-8")
    Checkpointer(model(), str(run)).save("model_0000001", checkpoints=names)
    checkpointer = Checkpointer(model(), str(run), keep=1)
    with pytest.raises(WeightsError, match=r"model_0000001\.pth: names the checkpoint .*no plain"):
        checkpointer.resume_or_load("", resume=True)
    checkpointer.save("model_0000002")
    assert precious.exists()


def test_leftovers_of_a_killed_process_are_removed(tmp_path: Path) -> None:
    (tmp_path / ".model_0000004.123.pth").write_bytes(b"half")
    Checkpointer(model(), str(tmp_path)).save("model_0000005")
    assert names(tmp_path) == ["last_checkpoint", "model_0000005.pth"]


def test_a_truncated_checkpoint_is_named_and_skipped(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    checkpointer = Checkpointer(model(), str(tmp_path))
    checkpointer.save("model_0000001", iteration=1)
    checkpointer.save("model_0000002", iteration=2)
    cut = tmp_path / "model_0000002.pth"
    cut.write_bytes(cut.read_bytes()[:-100])
    with caplog.at_level(logging.WARNING):
        assert checkpointer.resume_or_load("", resume=True)["iteration"] == 1
    warnings = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert "model_0000002.pth" in warnings[0]


def test_a_damaged_checkpoint_is_named_and_skipped(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    saved = model()
    checkpointer = Checkpointer(saved, str(tmp_path))
    checkpointer.save("model_0000001", iteration=1)
    checkpointer.save("model_0000002", iteration=2)
    flip_bit(tmp_path / "model_0000002.pth", saved["head"].weight.detach().numpy().tobytes())
    with caplog.at_level(logging.WARNING):
        assert checkpointer.resume_or_load("", resume=True)["iteration"] == 1
    assert "model_0000002.pth: damaged (Bad CRC-32 for file" in caplog.text


def flip_bit(path: Path, where: bytes) -> None:
    content = bytearray(path.read_bytes())
    content[content.index(where)] ^= 1
    path.write_bytes(content)


def test_nothing_but_truncated_checkpoints_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "model_0000001.pth").write_bytes(b"PK")
    with pytest.raises(WeightsError, match="none of its 1 checkpoints can be read"):
        Checkpointer(model(), str(tmp_path)).resume_or_load("", resume=True)


def test_without_a_checkpoint_the_weights_are_loaded(tmp_path: Path) -> None:
    first, second = model(), model()
    Checkpointer(first, str(tmp_path)).save_weights("weights", first.state_dict())
    Checkpointer(second, str(tmp_path / "new")).resume_or_load(
        str(tmp_path / "weights.pth"), resume=True
    )
    assert torch.equal(second["body"].weight, first["body"].weight)


def test_a_head_of_another_class_count_stays_fresh_for_training(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = model(classes=80), model(classes=2)
    Checkpointer(first, str(tmp_path)).save("model_0000001")
    with caplog.at_level(logging.WARNING):
        Checkpointer(second).load(str(tmp_path / "model_0000001.pth"))
    assert torch.equal(second["body"].weight, first["body"].weight)
    assert "head.weight (80, 4) in the file, (2, 4) in the model" in caplog.text


def test_a_head_of_another_class_count_cannot_be_evaluated(tmp_path: Path) -> None:
    Checkpointer(model(classes=80), str(tmp_path)).save("model_0000001")
    with pytest.raises(WeightsError, match=r"model_0000001\.pth: does not hold all weights"):
        load_for_evaluation(model(), tmp_path / "model_0000001.pth")


def test_weights_of_another_model_are_an_error(tmp_path: Path) -> None:
    Checkpointer(nn.Linear(2, 2), str(tmp_path)).save("model_0000001")
    with pytest.raises(WeightsError, match="weights of another model"):
        Checkpointer(model()).load(str(tmp_path / "model_0000001.pth"))


def test_evaluation_needs_weights() -> None:
    with pytest.raises(WeightsError, match=r"MODEL\.WEIGHTS is empty"):
        load_for_evaluation(model(), "")


@pytest.mark.parametrize("wrap", [dict, lambda w: {"state_dict": w}, lambda w: {"model": w}])
def test_other_layouts_of_files_are_read(tmp_path: Path, wrap: type[dict]) -> None:
    first, second = model(), model()
    weights = {f"module.{name}": value for name, value in first.state_dict().items()}
    torch.save(wrap(weights), tmp_path / "a.pth")
    Checkpointer(second).load(str(tmp_path / "a.pth"))
    assert torch.equal(second["head"].bias, first["head"].bias)


def test_a_pickle_of_the_model_zoo_is_matched_by_its_names(tmp_path: Path) -> None:
    net = model()
    arrays = {f"backbone.{name}": np.ones(v.shape, "f") for name, v in net.state_dict().items()}
    content = {"model": arrays, "__author__": "someone", "matching_heuristics": True}
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(content))
    wrapped = nn.ModuleDict({"net": nn.ModuleDict({"backbone": net})})
    Checkpointer(wrapped).load(str(tmp_path / "a.pkl"))
    assert net["head"].weight.eq(1).all()


def test_matching_heuristics_match_names_by_their_ends(tmp_path: Path) -> None:
    first, second = model(), model()
    torch.save(first.state_dict(), tmp_path / "a.pth")
    wrapped = nn.ModuleDict({"new": second})
    Checkpointer(wrapped).load(f"{tmp_path / 'a.pth'}?matching_heuristics=True")
    assert torch.equal(second["head"].weight, first["head"].weight)


def test_only_the_main_process_writes(tmp_path: Path) -> None:
    Checkpointer(model(), str(tmp_path), save_to_disk=False).save("model_0000001")
    assert names(tmp_path) == []
