from importlib.util import find_spec

import pytest
import torch

from d2ext._detectron2 import provider
from detectron2.evaluation import CityscapesInstanceEvaluator, CityscapesSemSegEvaluator


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
