"""From the settings of a case to a config; settings without a counterpart are refused."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import Any

from d2ext.config import get_cfg
from d2ext.errors import DataError
from detectron2.config import CfgNode

Settings = Mapping[str, Any]
Shapes = Mapping[str, Sequence[int]]  # of the published weights, by the authors' names
Rule = Callable[[CfgNode, Settings, Shapes], None]

# Settings of detector cases that belong to no part.
PLAIN = (
    *("words", "config_file", "num_classes", "pixel_mean", "pixel_std", "input_format"),
    *("size_divisibility", "centerness_on", "max_detections"),
)


@dataclass(frozen=True)
class Section:
    """How a part of a case's settings maps to a section of the config.

    A name that is not mentioned is the lower-case name of our key.

    Args:
        path: path of the section in the config.
        renamed: our keys of names that differ from them.
        fixed: the only value that our models have, for names without a key.
        ignored: names without influence on what a case compares.
        elsewhere: names that a rule reads.
    """

    path: str
    renamed: Mapping[str, str] = field(default_factory=dict)
    fixed: Settings = field(default_factory=dict)
    ignored: Collection[str] = ()
    elsewhere: Collection[str] = ()

    def merge(self, cfg: CfgNode, where: str, settings: Settings) -> None:
        """Write `settings`, the part `where` of a case, to the section, in the types of its keys.

        Raises:
            DataError: a setting has no key here, or a value without a counterpart.
        """
        node = reduce(getattr, self.path.split("."), cfg)
        for name, value in settings.items():
            key = self.renamed.get(name, name.upper())
            if name in self.fixed:
                check_fixed(f"{where}.{name}", value, self.fixed[name])
            elif name in (*self.ignored, *self.elsewhere):
                continue
            elif key in node:
                node[key] = value if node[key] is None else type(node[key])(value)
            else:
                raise DataError(f"case.json: {where}.{name}: not known here")


def check_fixed(name: str, value: Any, only: Any) -> None:
    """Refuse a setting whose value has no counterpart here.

    Raises:
        DataError: `value` is not `only`.
    """
    if value != only:
        raise DataError(f"case.json: {name}: there is no {value!r} here, only {only!r}")


def check_known(where: str, settings: Settings, known: Collection[str]) -> None:
    """Refuse a setting that nothing here reads.

    Args:
        where: path of the settings in case.json.
        known: the names that are read, fixed or without influence.
    Raises:
        DataError: a setting is not among them.
    """
    unknown = [name for name in settings if name not in known]
    if unknown:
        raise DataError(f"case.json: {where}.{unknown[0]}: not known here")


@dataclass(frozen=True)
class Part:
    """How one part of the settings of detector cases is read.

    Attributes:
        section: the section of the config that it fills.
        rule: sets what is not one key of one section.
        architecture: MODEL.META_ARCHITECTURE of a case that has this part; "" for any.
        add_config: adds the section to the config, for projects.
    """

    section: Section
    rule: Rule | None = None
    architecture: str = ""
    add_config: Callable[[CfgNode], None] | None = None


_PARTS: dict[str, Part] = {}


def register_parity_settings(
    name: str,
    section: Section,
    *,
    rule: Rule | None = None,
    architecture: str = "",
    add_config: Callable[[CfgNode], None] | None = None,
) -> None:
    """Register how the part `name` of the settings of detector cases is read; see `Part`.

    Parts are read in the order of registration. A case has one part with an architecture, that of
    its head.
    """
    _PARTS[name] = Part(section, rule, architecture, add_config)


def detector_config(settings: Settings, shapes: Shapes) -> CfgNode:
    """Build the config of the detector that a case describes, on the CPU.

    Args:
        settings: the settings of the case.
        shapes: shapes of the published weights, which show what the settings leave open.
    Raises:
        DataError: a setting is unknown, or has a value without a counterpart here.
    """
    _check_names(settings)
    parts = {name: part for name, part in _PARTS.items() if name in settings}
    cfg = get_cfg()
    # Sections first: a rule may set keys of another part's section.
    for part in parts.values():
        if part.add_config is not None:
            part.add_config(cfg)
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.META_ARCHITECTURE = next(filter(None, (p.architecture for p in parts.values())))
    cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD = settings["pixel_mean"], settings["pixel_std"]
    cfg.INPUT.FORMAT = settings["input_format"]
    most = settings.get("max_detections", cfg.TEST.DETECTIONS_PER_IMAGE)
    cfg.TEST.DETECTIONS_PER_IMAGE = most
    for name, part in parts.items():
        part.section.merge(cfg, f"config.{name}", settings[name])
        if part.rule is not None:
            part.rule(cfg, settings, shapes)
    return cfg


def _check_names(settings: Settings) -> None:
    check_known("config", settings, (*_PARTS, *PLAIN))
    heads = [name for name, part in _PARTS.items() if part.architecture]
    if len(settings.keys() & set(heads)) != 1:
        raise DataError(f"case.json: config: one of {', '.join(heads)} has to be there")
