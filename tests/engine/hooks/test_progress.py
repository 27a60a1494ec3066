import io
import logging
import sys

import pytest

from d2ext.engine.hooks import ProgressBar
from d2ext.engine.hooks.progress import PRINTER
from detectron2.engine import HookBase, TrainerBase


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Loop(TrainerBase):
    def run_step(self) -> None:
        self.storage.put_scalar("total_loss", 0.125)
        logging.getLogger(PRINTER).info("iter: %d", self.iter)
        logging.getLogger("d2ext.x").info("something else")


class Start(HookBase):
    def before_train(self) -> None:
        self.trainer.start_iter = 0


def use_terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Not a fixture: pytest sets the streams anew before it calls a test."""
    screen = Terminal()
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setattr(sys, "stderr", screen)
    return screen


def test_a_bar_shows_progress_and_keeps_lines_of_metrics_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    screen = use_terminal(monkeypatch)
    log = io.StringIO()
    root = logging.getLogger("detectron2")
    other = logging.getLogger("d2ext")
    console, file = logging.StreamHandler(sys.stdout), logging.StreamHandler(log)
    before = [(logger, logger.handlers, logger.level) for logger in (root, other)]
    for logger in (root, other):
        logger.handlers = [console, file]
        logger.setLevel(logging.INFO)
    loop = Loop()
    loop.register_hooks([Start(), ProgressBar(period=1)])
    try:
        loop.train(0, 3)
        assert logging.getLogger("detectron2").handlers == [console, file]
    finally:
        for logger, handlers, level in before:
            logger.handlers = handlers
            logger.setLevel(level)
    assert "loss=0.125" in screen.getvalue()
    assert "3/3" in screen.getvalue()
    assert "something else" in screen.getvalue()
    assert "iter: 1" not in screen.getvalue()
    assert "iter: 1" in log.getvalue()


def test_a_bar_is_for_terminals_only(monkeypatch: pytest.MonkeyPatch) -> None:
    use_terminal(monkeypatch)
    assert ProgressBar.wanted()
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    assert not ProgressBar.wanted()
