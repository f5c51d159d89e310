"""How often a graph in fewer bits is kept that truly loses the whole margin: worked out, and by simulated pairs."""

from collections import Counter

import numpy as np
import pytest

from models.bundle.faster import as_right
from models.config import ExportConfig, ReleaseConfig
from models.evaluation.pairs import counted, lowest_difference, paired
from models.evaluation.power import passing

MARGIN = ExportConfig().quantize_margin
CONFIDENCE = ReleaseConfig().confidence
PAIRS = 1000


@pytest.mark.parametrize("n", [100, 150, 270, 298, 300, 470, 1000])
@pytest.mark.parametrize("discordance", [1.0, 1.1, 1.5, 3.0, 10.0], ids=lambda times: f"{times:g}margins")
def test_a_loss_of_the_whole_margin_is_kept_no_more_often_than_docs_say(n, discordance):
    rate = passing(
        lambda pairs: as_right(pairs, MARGIN), n=n, loss=MARGIN, discordance=discordance * MARGIN, confidence=CONFIDENCE
    )
    assert rate <= 0.054


def test_tangos_limit_alone_would_keep_more_of_them():
    rate = passing(
        lambda pairs: lowest_difference(gained=pairs.gained, lost=pairs.lost, n=pairs.n, confidence=0.95) >= -MARGIN,
        n=270,
        loss=MARGIN,
        discordance=MARGIN,
        confidence=CONFIDENCE,
    )
    assert rate == pytest.approx(0.066, abs=0.002)


@pytest.mark.slow
@pytest.mark.parametrize(("n", "discordance"), [(270, 0.01), (400, 0.02), (1500, 0.03)])
def test_simulated_pairs_of_graphs_say_the_same(n, discordance):
    rng = np.random.default_rng(n)
    gain, loss = (discordance - MARGIN) / 2, (discordance + MARGIN) / 2
    kept: Counter[bool] = Counter()
    for _ in range(PAIRS):
        drawn = rng.random(n)
        other_right, exported_right = drawn < 1 - loss, (drawn < 1 - loss - gain) | (drawn >= 1 - loss)
        kept[as_right(paired(other_right, exported_right, confidence=CONFIDENCE), MARGIN)] += 1
    assert kept[True] <= PAIRS * 0.05 + 3 * np.sqrt(PAIRS * 0.05 * 0.95)


def test_pictures_that_all_agree_prove_a_point_from_299_on():
    assert not as_right(counted(0, 0, 298, confidence=CONFIDENCE), 0.01)
    assert as_right(counted(0, 0, 299, confidence=CONFIDENCE), 0.01)
