import logging
import re

import pytest
import torch
from torch import nn

from detectron2.evaluation import (
    DatasetEvaluator,
    DatasetEvaluators,
    inference_context,
    inference_on_dataset,
)


class Model(nn.Module):
    def forward(self, batch):
        return [(x, self.training, torch.is_grad_enabled()) for x in batch]


class Collect(DatasetEvaluator):
    def __init__(self, task="task"):
        self.task = task

    def reset(self):
        self.found = []

    def process(self, inputs, outputs):
        self.found += outputs

    def evaluate(self):
        return {self.task: {"count": len(self.found)}}


def test_inference_is_without_gradients_in_eval_mode_and_restores_the_mode():
    model, evaluator = Model(), Collect()
    assert inference_on_dataset(model, [[1, 2], [3]], evaluator) == {"task": {"count": 3}}
    assert evaluator.found == [(1, False, False), (2, False, False), (3, False, False)]
    assert model.training


def test_a_plain_function_can_be_evaluated():
    evaluator = Collect()
    inference_on_dataset(lambda batch: batch, [[1], [2]], [evaluator])
    assert evaluator.found == [1, 2]


def test_no_evaluator_and_no_results_give_an_empty_dict():
    class Silent(Collect):
        def evaluate(self):
            return None

    assert inference_on_dataset(Model(), [[1]], None) == {}
    assert inference_on_dataset(Model(), [[1]], Silent()) == {}


def test_callbacks_run_around_the_loop_and_each_call():
    calls = []
    stages = ["on_start", "before_inference", "after_inference", "on_end"]
    callbacks = {stage: lambda stage=stage: calls.append(stage) for stage in stages}
    inference_on_dataset(Model(), [[1], [2]], None, callbacks=callbacks)
    assert calls == [stages[0], *stages[1:3], *stages[1:3], stages[3]]


def test_results_of_several_evaluators_are_joined():
    evaluators = DatasetEvaluators([Collect("a"), Collect("b")])
    evaluators.reset()
    evaluators.process([1], [1])
    assert evaluators.evaluate() == {"a": {"count": 1}, "b": {"count": 1}}


def test_two_evaluators_must_not_score_the_same_task():
    with pytest.raises(AssertionError, match="task"):
        inference_on_dataset(Model(), [[1]], [Collect(), Collect()])


@pytest.mark.parametrize("training", [True, False])
def test_inference_context_restores_the_training_mode(training):
    model = Model().train(training)
    with inference_context(model):
        assert not model.training
    assert model.training == training


def test_progress_and_times_are_logged(caplog):
    logger = logging.getLogger("detectron2")
    logger.propagate, before = True, logger.propagate
    with caplog.at_level(logging.INFO, logger="detectron2"):
        inference_on_dataset(Model(), [[1]] * 12, None)
    logger.propagate = before
    lines = [record.getMessage() for record in caplog.records]
    assert lines[0] == "Start inference on 12 batches"
    per_device = r"\(\d+\.\d{6} s / iter per device, on 1 devices\)"
    for what in ("Total inference time", "Total inference pure compute time"):
        assert any(re.fullmatch(rf"{what}: \S+ {per_device}", line) for line in lines)
