"""One metric of an evaluation, and the best value it had so far."""

import logging
import math

logger = logging.getLogger(__name__)


class BestScore:
    """Remembers the best value of a metric.

    Args:
        metric: a name in metrics.json; of several data sets' metrics that end in it, the first
            counts. Lower is better where the name contains "loss", higher elsewhere.
    """

    def __init__(self, metric: str) -> None:
        self.metric = metric
        self.sign = -1.0 if "loss" in metric else 1.0
        self.best: float | None = None
        self.since = 0  # evaluations since the best one

    def update(self, metrics: dict[str, float]) -> bool:
        """Take an evaluation in; True if it is the best so far."""
        value = self.value_in(metrics)
        if value is not None and (self.best is None or self.sign * (value - self.best) > 0):
            self.best, self.since = value, 0
            return True
        self.since += 1
        return False

    def value_in(self, metrics: dict[str, float]) -> float | None:
        """The metric's value; None where it is not a number or not there."""
        names = [n for n in metrics if n == self.metric or n.endswith(f"/{self.metric}")]
        if not names:
            logger.warning(
                "TEST.BEST_METRIC %s was not measured; measured were: %s",
                self.metric,
                ", ".join(metrics) or "none",
            )
            return None
        value = metrics[min(names, key=len)]
        return value if math.isfinite(value) else None

    def state_dict(self) -> dict[str, float | int | None]:
        return {"best": self.best, "since": self.since}

    def load_state_dict(self, state_dict: dict) -> None:
        self.best, self.since = state_dict["best"], state_dict["since"]
