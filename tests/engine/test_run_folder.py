import os

import pytest

from d2ext.engine.run_folder import claim_folder, newest_run, release_folder, remove_results
from d2ext.errors import OutputError


def trained(folder):
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("log.txt", "config.yaml", "model_0000001.pth"):
        (folder / name).write_text("x", encoding="utf-8")
    return folder


def test_a_folder_without_a_run_is_taken_as_it_is(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("mine", encoding="utf-8")
    assert claim_folder(tmp_path / "out") == tmp_path / "out"


def test_runs_are_numbered(tmp_path):
    trained(tmp_path / "out")
    trained(tmp_path / "out_2")
    assert claim_folder(tmp_path / "out") == tmp_path / "out_3"
    assert claim_folder(tmp_path / "out_2") == tmp_path / "out_4"  # that of a run's config.yaml
    assert (tmp_path / "out" / "config.yaml").read_text(encoding="utf-8") == "x"


def test_a_name_with_a_number_of_its_own_is_not_counted_on(tmp_path):
    trained(tmp_path / "day_2024")
    assert claim_folder(tmp_path / "day_2024") == tmp_path / "day_2024_2"


def test_of_two_runs_that_start_together_each_has_its_folder(tmp_path):
    assert claim_folder(tmp_path / "out") != claim_folder(tmp_path / "out")


def test_a_run_that_does_not_start_takes_no_number(tmp_path):
    release_folder(claim_folder(tmp_path / "out"))
    assert not (tmp_path / "out").exists()
    failed = claim_folder(tmp_path / "out")
    (failed / "log.txt").write_text("error", encoding="utf-8")
    release_folder(failed, failed=True)
    assert claim_folder(tmp_path / "out") == failed
    kept = trained(tmp_path / "kept")
    release_folder(kept, failed=True)
    assert (kept / "log.txt").exists()


def test_the_newest_of_the_numbered_runs_is_resumed(tmp_path):
    for age, name in ((3, "out"), (1, "out_2"), (2, "out_3"), (0, "out_old")):
        os.utime(trained(tmp_path / name) / "model_0000001.pth", (10**9 - age, 10**9 - age))
    assert newest_run(tmp_path / "out") == tmp_path / "out_2"
    assert newest_run(tmp_path / "none") == tmp_path / "none"


def test_an_overwritten_run_leaves_no_weights_and_no_results(tmp_path):
    folder = trained(tmp_path / "out")
    for name in ("last_checkpoint", "model_best.pth", "model_final.pth", "results.json"):
        (folder / name).write_text("model_0000001.pth", encoding="utf-8")
    remove_results(folder)
    assert sorted(path.name for path in folder.iterdir()) == ["config.yaml", "log.txt"]


def test_a_folder_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "out").write_text("mine", encoding="utf-8")
    with pytest.raises(OutputError, match="cannot be written to"):
        claim_folder(tmp_path / "out")
