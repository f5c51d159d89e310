"""What the gate measures, written down: values that runs keep. Nothing is imported here that takes time."""

from data.frozen import Frozen


class Statistic(Frozen):
    """Something simple about pictures, the mean over those of each part, and the spread over all."""

    name: str
    train: float
    test: float
    spread: float  # standard deviation

    @property
    def difference(self) -> float:
        """In standard deviations, test minus train."""
        return (self.test - self.train) / self.spread if self.spread else 0.0


class Shift(Frozen):
    """A classifier two-sample test, https://arxiv.org/abs/1610.06545, on simple statistics of the pixels."""

    n: int  # pictures of each part
    separability: float  # of a training and a test picture, how often the test picture is told: the area under the ROC
    p_value: float  # one-sided, of separability 0.5
    statistics: tuple[Statistic, ...]  # the one that differs most first
