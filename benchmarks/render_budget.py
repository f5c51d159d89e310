"""The tables of accuracy in a budget of minutes for results.md: one a case, a row a contender, a column a budget."""

from typing import Any

from benchmarks.render_speed import Read, Table, on, versions

ORDER = ("cnn", "conv_vit", "timm", "lightning", "fastai")
ABOUT = (
    "Test accuracy (95 % interval) on pictures that nobody trained on or chose by, one run each, seed 0, all cores of "
    "a CPU. `cnn` and `conv_vit` are this project's, with its defaults: networks and picture sizes of its own, and "
    "bfloat16 where the processor multiplies in it. The others train a ResNet-18 each in its own documented way, in "
    "float32, on flowers at 128 px. Below it: epochs (this project's last may be cut short), seconds of training "
    "really used, and pictures a second (of the others all pictures over all seconds; of this project the median "
    "epoch's, without its validation, which is within its budget; and it trains on fewer pictures)."
)


def section(read: Read, table: Table) -> str:
    """ "" where it was not measured."""
    runs = read("budget-*.json")
    if not runs:
        return ""
    parts = ["## What a budget of minutes gives", ABOUT]
    for case in sorted({run["case"] for run in runs}):
        found = {(run["contender"], run["minutes"]): run for run in runs if run["case"] == case}
        budgets = sorted({minutes for _, minutes in found})
        rows = [
            [contender, *(cell(found.get((contender, minutes))) for minutes in budgets)]
            for contender in ORDER
            if any((contender, minutes) in found for minutes in budgets)
        ]
        n = ", ".join(sorted({f"{run['test']['n']:,}" for run in found.values()}))
        parts += [f"### {case}, {n} test pictures", table(["", *(f"{m:g} min" for m in budgets)], rows)]
    ordered = sorted(runs, key=lambda run: (run["case"], ORDER.index(run["contender"]), run["minutes"]))
    return "\n\n".join([*parts, "### Settings and commands of the budgets", "\n".join(map(told, ordered))])


def cell(run: dict[str, Any] | None) -> str:
    if run is None:
        return ""
    test, epochs = run["test"], run["epochs"]
    low, high = test["interval"]["low"], test["interval"]["high"]
    return (
        f"**{test['accuracy']:.1%}** ({low:.1%} to {high:.1%})<br>{epochs:g} epoch{'s' if epochs > 1 else ''}, "
        f"{run['seconds']:.0f} s, {run['images_per_s']:.0f}/s"
    )


def told(run: dict[str, Any]) -> str:
    settings = "; ".join(f"{name}: {rounded(value)}" for name, value in run["settings"].items())
    cut = f"; {run['per_class']} pictures of each class" if run["per_class"] else ""
    what = f"{run['case']}, {run['minutes']:g} min, {run['contender']}"
    return f"- {what} ({versions(run)}){cut}; {settings}; {on(run)}"


def rounded(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
