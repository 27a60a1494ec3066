"""Track one metric over evaluations and its best value."""

import logging
import math

logger = logging.getLogger(__name__)


class BestScore:
    """Remembers the best value of a metric.

    Args:
        metric: a name in metrics.json, without the data set. If several data sets are evaluated,
            the first of DATASETS.TEST counts. Lower is better if the name contains "loss", else
            higher.
    """

    def __init__(self, metric: str) -> None:
        self.metric = metric
        self.sign = -1.0 if "loss" in metric else 1.0
        self.best: float | None = None
        self.since = 0  # evaluations since the best one

    def update(self, metrics: dict[str, float]) -> bool:
        """Record an evaluation; return True if it is the best so far."""
        value = self.value_in(metrics)
        if value is not None and (self.best is None or self.sign * (value - self.best) > 0):
            self.best, self.since = value, 0
            return True
        self.since += 1
        return False

    def value_in(self, metrics: dict[str, float]) -> float | None:
        """Return the metric's value; None if it is missing or not finite.

        Args:
            metrics: "task/metric" or, with several data sets, "dataset/task/metric", in the order
                of the data sets.
        """
        ending = f"/{self.metric}"
        found = [name for name in metrics if name == self.metric or name.endswith(ending)]
        if not found:
            logger.warning(
                "TEST.BEST_METRIC %s was not measured; measured were: %s",
                self.metric,
                ", ".join(metrics) or "none",
            )
            return None
        value = metrics[self.metric if self.metric in metrics else found[0]]
        return value if math.isfinite(value) else None

    def state_dict(self) -> dict[str, float | int | None]:
        return {"best": self.best, "since": self.since}

    def load_state_dict(self, state_dict: dict) -> None:
        self.best, self.since = state_dict["best"], state_dict["since"]
