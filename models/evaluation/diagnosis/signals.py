"""What flows through the network: gradients that vanish or explode, units that died, and the curvature at the end."""

from collections.abc import Iterator

import numpy as np

from models.evaluation.diagnosis.remark import Evidence, Level, Remark, small
from models.evaluation.percent import percent
from models.records import Spectrum

VANISHED = 1e-3  # a gradient near the pictures over that near the answer
EXPLODED = 100.0  # norm of the whole gradient, mean of an epoch
BURST, BURST_LEAST = 30.0, 10.0  # times the median of the epochs, and this at least
DEAD_NOTED, DEAD_WARNED = 0.1, 0.5  # of all units; of the units of a layer
FLAT = 1e-3  # of the largest curvature: what rounding and a finite sample leave of zero


def vanishing(run: Evidence) -> Iterator[Remark]:
    """The layers near the pictures get a gradient a thousandth of that near the answer, or less, in most epochs."""
    norms = gradient_table(run)
    if norms is None:
        return
    third = len(norms[1]) // 3
    first, last = norms[1][:third].max(axis=0), norms[1][-third:].max(axis=0)  # (epochs,)
    ratio = np.median(first / np.maximum(last, 1e-30))
    if ratio < VANISHED:
        layer = int(norms[1][:third].mean(axis=1).argmax())
        times = f"{small(float(1 / ratio))} times less than" if ratio > 1e-12 else "as good as nothing beside that"
        yield Remark(
            "vanishing gradients",
            "warning",
            f"Vanishing gradients: in layer {norms[0][layer]}, near the pictures, the gradient has a norm of "
            f"{small(float(np.median(first)))}, {times} near the answer "
            f"({small(float(np.median(last)))}), so the first layers hardly learn.",
            "ReLU instead of sigmoid or tanh, normalisation layers, shortcuts around layers, or fewer layers",
            "gradients",
        )


def exploding(run: Evidence) -> Iterator[Remark]:
    """The gradient is huge in most epochs, or in one of them dozens of times that of the others."""
    norms = np.array([record.grad_norm for record in run.history])
    if len(norms) < 2:
        return
    usual, worst = float(np.median(norms)), int(norms.argmax())
    bursts = norms[worst] > BURST * usual and norms[worst] > BURST_LEAST
    if usual <= EXPLODED and not bursts:
        return
    about = f"{small(usual)} in the middle of {len(norms)} epochs" if usual > EXPLODED else f"usually {small(usual)}"
    yield Remark(
        "exploding gradients",
        "warning",
        f"Exploding gradients: their norm is {about} and reached {small(float(norms[worst]))} in epoch {worst + 1}, "
        "where a few units are usual, so single steps can undo what was learnt.",
        "smaller first weights, normalisation layers, a lower learning rate, and gradient clipping (train.clip_norm 1)",
        "gradients",
    )


def gradient_table(run: Evidence) -> tuple[list[str], np.ndarray] | None:
    """Names of the layers, input first, and their norms (layers, epochs); None without records of three layers."""
    known = [record.grad_norm_by_layer for record in run.history if record.grad_norm_by_layer]
    if not known or len(known[0]) < 3:
        return None
    names = list(known[0])
    return names, np.array([[layers.get(name, 0.0) for layers in known] for name in names])


def dead_units(run: Evidence) -> Iterator[Remark]:
    """Half the units of a layer, or a tenth of all, gave 0 on every training picture that was looked at."""
    if run.checks is None or not run.checks.dead:
        return
    layers, n = run.checks.dead, run.checks.training.n
    units, dead = sum(layer.units for layer in layers), sum(layer.dead for layer in layers)
    worst = max(layers, key=lambda layer: layer.dead / layer.units)
    idle, some = worst.dead >= DEAD_WARNED * worst.units, dead >= DEAD_NOTED * units
    level: Level = "warning" if idle else "note" if some else "fine"
    if not dead:
        yield Remark(
            "dead units",
            "fine",
            f"Dead ReLUs: none, each of the {units:,} units fired on some of the {n:,} training pictures looked at.",
        )
        return
    where = f" (in layer {worst.layer} {worst.dead} of {worst.units})"
    meaning = {
        "warning": "; such a unit no longer learns, so a large part of the model lies idle",
        "note": "; such a unit no longer learns",
        "fine": "",
    }
    yield Remark(
        "dead units",
        level,
        f"Dead ReLUs: {dead:,} of {units:,} units ({percent(dead / units)}) gave 0 on all {n:,} training pictures "
        f"looked at{where}{meaning[level]}.",
        None if level == "fine" else "a lower learning rate, normalisation layers, leaky ReLU or GELU, or fewer units",
        "dead units",
    )


def curvature(run: Evidence) -> Iterator[Remark]:
    if run.checks is None:
        return
    if run.checks.spectrum_failed:
        yield Remark(
            "curvature",
            "note",
            f"Curvature: the eigenvalues of the Hessian could not be computed ({run.checks.spectrum_failed}).",
            "fewer pictures (diagnose.hessian_pictures), or another model",
        )
    if run.checks.spectrum:
        yield minimum_or_saddle(run.checks.spectrum)


def minimum_or_saddle(found: Spectrum) -> Remark:
    """A value below zero by more than its error is proof of a direction in which the loss bends down."""
    scale = FLAT * max(abs(found.largest), abs(found.smallest))
    figures = (
        f"its curvature (eigenvalue of the Hessian) lies between {small(found.smallest)} "
        f"(± {found.smallest_error:.1g}) and {small(found.largest)} (± {found.largest_error:.1g}), after "
        f"{found.iterations} Lanczos steps on {found.n:,} training pictures, where the slope (norm of the gradient) is "
        f"{small(found.slope)}"
    )
    if found.smallest + found.smallest_error < -scale:
        depth = abs(found.smallest / found.largest) if found.largest else 1.0
        return Remark(
            "saddle",
            "note",
            f"Saddle: the loss rises in some directions from the end point and still falls in others: {figures}.",
            "usually nothing, most networks end so, "
            f"and downwards it bends {percent(depth)} as sharply as upwards; "
            "more epochs or a higher final rate would follow that direction",
            "spectrum",
        )
    flat = found.smallest < scale
    return Remark(
        "minimum",
        "fine",
        f"Minimum{', flat in some directions' if flat else ''}: from the end point the loss falls in no direction that "
        f"was found: {figures}.",
        picture="spectrum",
    )
