import logging

from d2ext.config import get_cfg
from d2ext.engine.hooks.pictures import SavePictures


def test_a_picture_that_cannot_be_drawn_is_logged_and_the_run_goes_on(tmp_path, caplog):
    cfg = get_cfg()
    cfg.OUTPUT_DIR, cfg.DATASETS.TEST = str(tmp_path), ("unknown",)
    results = tmp_path / "inference" / "unknown"
    results.mkdir(parents=True)
    (results / "coco_instances_results.json").write_text("[")
    (tmp_path / "metrics.json").write_text('{"iteration": 0, "total_loss": 1.0}\n')
    with caplog.at_level(logging.ERROR):
        SavePictures(cfg).after_train()
    assert "predictions_unknown.jpg could not be drawn" in caplog.text
    assert (tmp_path / "curves.png").exists()
