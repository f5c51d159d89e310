"""Thirty nights, each with a model that truly lost 0.3 points: how far that gets, with the check and without."""

import numpy as np
import pytest

from models.config import ReleaseConfig
from models.evaluation.checks import since
from models.evaluation.compare import relate
from models.evaluation.pairs import paired
from models.verdict import failed

CONFIG = ReleaseConfig()
NIGHTS, LOSS = 30, 0.003
CHAINS = 60
BOUND = 0.01  # beyond the margin: as docs/release.md says


def lost(rng: np.random.Generator, *, n: int, differ: float, checked: bool, loss: float = LOSS) -> tuple[float, int]:
    """What the model in service has truly lost after all nights, and how often one was promoted. Every model answers
    some pictures by chance, so that two of them differ on a share `differ`; what was lost stays lost."""
    by_chance, sure, lasts = rng.random(n) < 2 * differ, rng.random(n) < 0.8, rng.random(n)

    def right(depth: float) -> np.ndarray:
        answers: np.ndarray = np.where(by_chance, rng.random(n) < 0.5, sure) & (lasts >= depth)
        return answers

    depth, promotions = 0.0, 0
    champion = better = right(depth)
    for _ in range(NIGHTS):
        model = right(depth + loss)
        pairs = paired(model, champion, confidence=CONFIG.confidence)
        relation = relate(pairs, same=pairs.gained + pairs.lost == 0, config=CONFIG)
        if relation not in ("better", "not worse"):
            continue
        if checked and better is not champion:
            then = paired(model, better, confidence=CONFIG.confidence)
            if failed((since(then, CONFIG, name="flowers@1", decides=relation == "not worse"),)):
                continue
        champion, depth, promotions = model, depth + loss, promotions + 1
        better = model if relation == "better" else better
    return depth, promotions


@pytest.mark.slow
@pytest.mark.parametrize(("n", "differ"), [(1000, 0.03), (1000, 0.06), (2000, 0.04)])
def test_losses_that_each_are_too_small_to_be_refused_are_stopped_before_they_add_up(n, differ):
    rng = np.random.default_rng(n)
    chains = {
        checked: np.array([lost(rng, n=n, differ=differ, checked=checked)[0] for _ in range(CHAINS)])
        for checked in (True, False)
    }
    beyond = {checked: float((depths > CONFIG.margin + BOUND).mean()) for checked, depths in chains.items()}
    assert beyond[True] <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / CHAINS)
    assert chains[True].max() <= CONFIG.margin + 3 * BOUND
    assert beyond[False] > 0.4
    assert chains[False].mean() > chains[True].mean() + 0.01


def test_models_that_lost_nothing_are_promoted_nearly_as_often_as_without():
    rng = np.random.default_rng(7)
    often = {
        checked: np.mean([lost(rng, n=1000, differ=0.04, checked=checked, loss=0.0)[1] for _ in range(20)]) / NIGHTS
        for checked in (True, False)
    }
    assert often[True] > 0.8 * often[False]
