from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from d2ext._detectron2 import provider
from detectron2.evaluation import (
    CityscapesInstanceEvaluator,
    CityscapesSemSegEvaluator,
    cityscapes_evaluation,
)


@pytest.mark.skipif(
    provider() == "official" or find_spec("cityscapesscripts") is not None,
    reason="the bundled runtime's message where cityscapesscripts is missing",
)
@pytest.mark.parametrize("kind", [CityscapesInstanceEvaluator, CityscapesSemSegEvaluator])
def test_missing_cityscapes_scripts_raise_an_error_with_the_remedy(kind):
    evaluator = kind("cityscapes_fine_sem_seg_val")
    evaluator.reset()
    with pytest.raises(ImportError, match="pip install cityscapesscripts"):
        evaluator.process([{"file_name": "a.png"}], [{"sem_seg": torch.zeros(19, 2, 2)}])


@pytest.mark.skipif(provider() == "official", reason="replaces a function of the bundled runtime")
def test_the_scripts_are_called_with_their_own_orders_of_arguments(tmp_path, monkeypatch):
    truth = tmp_path / "bonn" / "a_gtFine_labelIds.png"
    truth.parent.mkdir()
    truth.touch()
    script = SimpleNamespace(
        args=SimpleNamespace(),
        getPrediction=lambda args, groundTruthFile: groundTruthFile,
        evaluateImgLists=lambda predictions, truths, args: {"equal": predictions == truths},
    )
    monkeypatch.setattr(cityscapes_evaluation, "_scripts", lambda name: script)
    evaluator = CityscapesSemSegEvaluator("cityscapes_fine_sem_seg_val")
    evaluator._metadata = SimpleNamespace(gt_dir=str(tmp_path))
    evaluator.reset()
    assert evaluator._evaluate("evalPixelLevelSemanticLabeling", "labelIds") == {"equal": True}
    script.getPrediction = lambda groundTruthFile, args: groundTruthFile
    assert evaluator._evaluate("evalInstanceLevelSemanticLabeling", "labelIds") == {"equal": True}


@pytest.mark.skipif(provider() == "official", reason="replaces a function of the bundled runtime")
def test_an_image_without_instances_has_an_empty_list(monkeypatch):
    labels = SimpleNamespace(name2label={})
    monkeypatch.setattr(cityscapes_evaluation, "_scripts", lambda name: labels)
    evaluator = CityscapesInstanceEvaluator("cityscapes_fine_instance_seg_val")
    evaluator.reset()
    evaluator.process([{"file_name": "a.png"}], [{}])
    assert Path(evaluator._temp_dir, "a_pred.txt").read_text() == ""
