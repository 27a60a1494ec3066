"""`detectron2.config.configurable`: building from a config or from arguments."""

import pytest

import d2ext  # noqa: F401
from detectron2.config import CfgNode, configurable, get_cfg


class Circle:
    @configurable
    def __init__(self, radius: float, color: str = "red", *, filled: bool = False) -> None:
        self.seen = (radius, color, filled)

    @classmethod
    def from_config(cls, cfg: CfgNode, filled: bool = True) -> dict:
        return {"radius": cfg.RADIUS, "filled": filled}


class Ring(Circle):
    @configurable
    def __init__(self, width: float, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.width = width

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        return {"width": 0.5, **super().from_config(cfg)}


@configurable(from_config=lambda cfg: {"a": cfg.RADIUS})
def scaled(a: float, b: float = 2) -> float:
    return a * b


@pytest.fixture
def cfg() -> CfgNode:
    return CfgNode({"RADIUS": 3})


def test_a_class_is_built_from_arguments():
    assert Circle(1, "blue").seen == (1, "blue", False)


def test_a_class_is_built_from_a_config(cfg: CfgNode):
    assert Circle(cfg).seen == (3, "red", True)
    assert Circle(cfg=cfg).seen == (3, "red", True)


def test_arguments_of_from_config_are_passed_to_it(cfg: CfgNode):
    assert Circle(cfg, filled=False).seen == (3, "red", False)
    assert Circle(cfg, False).seen == (3, "red", False)


def test_other_arguments_override_the_result_of_from_config(cfg: CfgNode):
    assert Circle(cfg, radius=9, color="green").seen == (9, "green", True)


def test_a_subclass_extends_from_config(cfg: CfgNode):
    ring = Ring(cfg)
    assert ring.seen == (3, "red", True)
    assert ring.width == 0.5


def test_a_function_is_called_with_a_config(cfg: CfgNode):
    assert scaled(5) == 10
    assert scaled(cfg) == 6
    assert scaled(cfg, b=10) == 30
    assert scaled.from_config(cfg) == {"a": 3}


def test_decoration_keeps_name_and_docstring():
    assert scaled.__name__ == "scaled"


def test_misuse_is_an_error():
    class Without:
        @configurable
        def __init__(self, a: int = 1) -> None: ...

    class NoClassmethod(Without):
        def from_config(self, cfg: CfgNode) -> dict: ...

    class WrongName(Without):
        @classmethod
        def from_config(cls, config: CfgNode) -> dict: ...

    with pytest.raises(AttributeError, match="from_config"):
        Without(a=1)
    with pytest.raises(TypeError, match="from_config"):
        NoClassmethod(a=1)
    with pytest.raises(TypeError, match="cfg"):
        WrongName(get_cfg())
