"""How strange a picture is to a model: a score, and what is known of it. No torch here.

The energy of a picture is minus the logarithm of the sum of the exponentials of its logits, at temperature 1
(https://arxiv.org/abs/2010.03759): low where some class speaks up, high where none does. It is a score and no gate; one
in twenty of the model's own pictures is above the threshold by its making, and a picture of a class that it has not
heard of may well be below.
"""

from collections.abc import Mapping

import numpy as np

from models.cards import Outliers, Stranger
from models.evaluation.percent import percent

OWN = 95  # of 100 of the model's own pictures are below the threshold


def energy(logits: np.ndarray) -> np.ndarray:
    """(N, K) -> (N,) float64; higher is stranger."""
    from scipy.special import logsumexp

    found: np.ndarray = -logsumexp(logits.astype(np.float64), axis=1)
    return found


def outliers(test: np.ndarray, strangers: Mapping[str, np.ndarray]) -> Outliers | None:
    """Energies (N,) of test pictures, and of strangers by their kind. None where some are no numbers."""
    if not all(len(some) and np.isfinite(some).all() for some in (test, *strangers.values())):
        return None
    quantiles = np.percentile(test, np.arange(101))
    limit = float(quantiles[OWN])
    found = tuple(_stranger(name, test, some, limit) for name, some in strangers.items())
    return Outliers(
        n=len(test),
        quantiles=tuple(map(float, quantiles)),
        threshold=limit,
        strangers=found,
        said=_said(len(test), found),
    )


def _stranger(name: str, test: np.ndarray, some: np.ndarray, limit: float) -> Stranger:
    from sklearn.metrics import roc_auc_score

    which = np.repeat([0, 1], [len(test), len(some)])
    auroc = float(roc_auc_score(which, np.append(test, some)))
    return Stranger(name=name, n=len(some), auroc=auroc, above=float((some > limit).mean()))


def _said(n: int, found: tuple[Stranger, ...]) -> str:
    """In words. 0.5 is what chance gives."""
    told = ", ".join(f"{one.name} {one.auroc:.2f} ({percent(one.above)})" for one in found)
    return (
        f"how well the energy tells made-up strangers from {n:,} test pictures, as area under the ROC curve, and how "
        f"many are stranger than {OWN} % of these: {told}"
    )
