"""Proof that our models give the numbers of their authors' code, on cases of made-up weights."""

from pathlib import Path

from d2ext.errors import DataError
from d2ext.parity.attention import deformable_attention
from d2ext.parity.case import Case, Comparison, case_facts
from d2ext.parity.detectors import detector
from d2ext.parity.detectron2_case import Detectron2Case
from d2ext.parity.detectron2_models import detectron2_model
from d2ext.parity.modules import dyhead_block, swin_backbone
from d2ext.parity.projects import project_for

__all__ = ["Case", "Comparison", "run_case"]

DETECTRON2 = ("GeneralizedRCNN", "PanopticFPN", "RetinaNet")


def run_case(folder: Path) -> list[Comparison]:
    """Build the model of a case, fill it, run it, and compare everything that the case stores.

    Raises:
        DataError: `folder` holds no case, or one of a model that is not known.
    """
    project = project_for(case_facts(folder))
    if project is not None:
        return project.compare(folder)
    case = Case(folder)
    if case.config.get("settings", {}).get("MODEL.META_ARCHITECTURE") in DETECTRON2:
        case = Detectron2Case(folder)
        return case.compare_all(detectron2_model(case))
    if "group_norm_groups" in case.config:
        return case.compare_all(dyhead_block(case))
    if "embed_dim" in case.config:
        return case.compare_all(swin_backbone(case))
    if "functions" in case.config:
        return case.compare_all(deformable_attention(case))
    if "fpn" in case.config:
        return case.compare_all(detector(case))
    raise DataError(f"{folder}: a case of a model that is not known here: {list(case.config)}")
