"""How often the whole comparison errs: by 1,000 simulated pairs of models, worked out, and as docs/release.md says."""

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from models.config import ReleaseConfig
from models.evaluation.compare import compare
from models.evaluation.power import promotion
from models.verdict import Verdict

DOCS = Path(__file__).parents[2] / "docs" / "release.md"
CLASSES = tuple("abcde")
CONFIG = ReleaseConfig()
PAIRS = 1000


def at_most(rate: float) -> float:
    """Of `PAIRS`, three standard deviations above the stated rate."""
    return float(PAIRS * rate + 3 * np.sqrt(PAIRS * rate * (1 - rate)))


def verdict(n: int, gained: int, lost: int) -> Verdict:
    """Of two models on n pictures in five classes, where so many are right for one of them alone; 80 % for both."""
    i, both = np.arange(n), round(0.8 * n)
    new = i < both + gained
    old = (i < both) | ((i >= both + gained) & (i < both + gained + lost))
    labels = i % 5
    ours, theirs = (
        np.where(np.eye(5)[np.where(right, labels, (labels + 1) % 5)] == 1, 0.8, 0.05) for right in (new, old)
    )
    return compare(
        challenger=ours, champion=theirs, labels=labels, classes=CLASSES, config=CONFIG, champion_name="flowers@7"
    )


def simulated(n: int, *, loss: float, discordance: float) -> Iterator[tuple[Verdict, int]]:
    """The verdicts on `PAIRS` pairs, each with how many pairs it is of: equal counts give equal verdicts."""
    shares = [(discordance - loss) / 2, (discordance + loss) / 2, 1 - discordance]
    drawn = np.random.default_rng(n).multinomial(n, shares, size=PAIRS)[:, :2]
    for (gained, lost), times in Counter(map(tuple, drawn.tolist())).items():
        yield verdict(n, gained, lost), times


@pytest.mark.slow
@pytest.mark.parametrize(("n", "discordance"), [(300, 0.06), (2000, 0.02)])
def test_a_model_that_is_no_better_is_called_better_no_more_often_than_stated(n, discordance):
    relations: Counter[str] = Counter()
    for one, times in simulated(n, loss=0.0, discordance=discordance):
        relations[one.relation] += times
        assert one.promoted == (one.relation in ("better", "not worse"))
    assert relations.total() == PAIRS
    assert relations["better"] <= at_most(0.025)
    assert relations["worse"] <= at_most(0.025)


@pytest.mark.slow
@pytest.mark.parametrize(("n", "discordance"), [(300, 0.02), (300, 0.08), (2000, 0.03)])
def test_a_planted_loss_of_two_points_is_refused_with_the_stated_power(n, discordance):
    promoted = sum(times for one, times in simulated(n, loss=0.02, discordance=discordance) if one.promoted)
    assert promoted <= at_most(0.05)


@pytest.mark.slow
@pytest.mark.parametrize(("n", "loss", "discordance"), [(300, -0.02, 0.04), (1000, 0.005, 0.03)])
def test_what_is_worked_out_is_what_is_simulated(n, loss, discordance):
    stated = promotion(n=n, loss=loss, discordance=discordance, config=CONFIG)
    found = sum(times for one, times in simulated(n, loss=loss, discordance=discordance) if one.promoted)
    assert abs(found - PAIRS * stated) <= 3 * np.sqrt(PAIRS * stated * (1 - stated)) + 1


@pytest.mark.parametrize("n", [133, 205, 300, 1000])
@pytest.mark.parametrize("discordance", [0.02, 0.022, 0.08])
def test_no_loss_of_the_whole_margin_is_promoted_more_often_than_stated(n, discordance):
    """Also of a model that only loses, where Tango's limit alone fails."""
    assert promotion(n=n, loss=CONFIG.margin, discordance=discordance, config=CONFIG) <= 0.053


def test_a_loss_larger_than_all_that_differs_is_refused():
    with pytest.raises(ValueError, match="at least as many answers that differ"):
        promotion(n=100, loss=0.1, discordance=0.05, config=CONFIG)


def test_the_table_in_the_docs_is_what_the_function_says():
    """Rows: pictures, and how many of them differ. Columns: the true difference in points. Cells: how many are
    promoted."""
    table = DOCS.read_text().partition("| pictures | differ |")[2].partition("\n\n")[0]
    differences = [float(word) / 100 for word in re.findall(r"([-+]?\d+) points", table)]
    rows = re.findall(r"^\| ([\d,]+) \| (\d+) % \| (.+) \|$", table, flags=re.MULTILINE)
    assert (len(differences), len(rows)) == (7, 9)
    for pictures, differ, cells in rows:
        n, discordance = int(pictures.replace(",", "")), int(differ) / 100
        for difference, cell in zip(differences, cells.split(" | "), strict=True):
            if abs(difference) > discordance:
                assert cell == "–"
            else:
                share = promotion(n=n, loss=-difference, discordance=discordance, config=CONFIG)
                assert cell == stated(share), (n, discordance, difference)


def stated(share: float) -> str:
    return "< 0.1 %" if share < 0.001 else f"{100 * share:.1f} %" if share < 0.1 else f"{100 * share:.0f} %"
