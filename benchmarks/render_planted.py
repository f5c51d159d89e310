"""The tables of planted faults for results.md, and the thresholds that they decide. "" where they were not measured.

python -m benchmarks.render_planted    prints the thresholds alone
"""

from typing import Any

from benchmarks.render_speed import Read, Table, on, spread
from models.evaluation.metrics import wilson

Figures = dict[str, Any]
MOST_FALSE = 0.005  # of the untouched pictures that a default may find
PUBLISHED = {"dark": 0.32, "light": 0.05, "blank": 0.3, "odd_aspect": 0.35, "odd_size": 3.0}
"""cleanvision's; that of blur is of another measure."""

KINDS = {
    "dark": ("black", "dark, gamma 4"),
    "light": ("overexposed by 3 stops",),
    "blank": ("one colour", "black"),
    "blurred": ("blurred, 3 pixels of 96",),
    "odd_aspect": ("squeezed to 30 % width",),
    "odd_size": ("5 times the size",),
}
"""rule -> what it ought to find."""

SHOWN = 7  # thresholds of a sweep
ALIKE = 0.93  # the least at which what pairs two classes stays below `MOST_FALSE`, whatever the bits, in both sets
LEAST_ALIKE = (0.0, 0.9, ALIKE, 0.95, 0.98)  # that are shown
SHOWN_BITS = (4, 8, 10, 14)


def share(found: int, of: int) -> str:
    """With its 95 % interval."""
    if not of:
        return ""
    interval = wilson(found, of)
    return f"{found / of:.1%} ({interval.low:.1%} to {interval.high:.1%})"


def recall(figures: Figures, rule: str, row: Figures) -> float:
    kinds = KINDS[rule]
    return sum(row["found"][kind] for kind in kinds) / (len(kinds) * figures["planted_of_each"])


def chosen(sets: list[Figures], rule: str) -> float | None:
    """Of the thresholds that find at most `MOST_FALSE` of the untouched pictures of every set, the one that finds most
    of what was planted; among equals the one nearest to cleanvision's. None if there is none."""
    points = [row["threshold"] for row in sets[0]["quality"][rule]]
    by_point = {point: [figures["quality"][rule][place] for figures in sets] for place, point in enumerate(points)}

    def passes(point: float) -> bool:
        both = zip(sets, by_point[point], strict=True)
        return all(row["false"] <= MOST_FALSE * figures["untouched"] for figures, row in both)

    def worth(point: float) -> tuple[float, float]:
        both = zip(sets, by_point[point], strict=True)
        found = sum(recall(figures, rule, row) for figures, row in both)
        return round(found, 6), -abs(point - PUBLISHED.get(rule, point))

    return max(filter(passes, points), key=worth, default=None)


def sections(read: Read, table: Table) -> list[str]:
    sets = [*read("planted-flowers.json"), *read("planted-cifar10.json")]
    if not sets:
        return []
    about = [
        "## Planted faults",
        "What the gate's measurements find of faults planted into real pictures (recall), and how many of the "
        "untouched ones they find beside them (false; some of these are dark, or near copies, in truth). With Wilson's "
        "95 % intervals. `benchmarks/planted.py` says more.",
        *(
            f"- {f['set']}: {f['pictures']:,} pictures at {f['side']} px, {f['planted_of_each']} planted of each kind, "
            f"{f['untouched']:,} untouched; {on(f)}, cleanvision {f['machine']['cleanvision']}, "
            f"imagehash {f['machine']['imagehash']}"
            for f in sets
        ),
    ]
    return ["\n\n".join([*about, *looks(sets, table), *near(sets, table), *published(sets, table), speed(sets, table)])]


def looks(sets: list[Figures], table: Table) -> list[str]:
    rows = []
    for rule in KINDS:
        picked = chosen(sets, rule)
        points = [row["threshold"] for row in sets[0]["quality"][rule]]
        step = max(1, len(points) // SHOWN)
        known = (PUBLISHED.get(rule), picked)
        shown = sorted({*points[step - 1 :: step], *(point for point in known if point is not None)})
        for point in shown:
            cells = [rule, f"**{point:g}**" if point == picked else f"{point:g}"]
            cells[1] += " (cleanvision's)" if point == PUBLISHED.get(rule) else ""
            for figures in sets:
                row = next(row for row in figures["quality"][rule] if row["threshold"] == point)
                each = figures["planted_of_each"]
                cells.append("<br>".join(f"{kind}: {share(row['found'][kind], each)}" for kind in KINDS[rule]))
                cells.append(share(row["false"], figures["untouched"]))
            rows.append(cells)
    head = ["rule", "threshold", *(f"{what}, {f['set']}" for f in sets for what in ("recall", "false"))]
    about = (
        f"**Bold** is the threshold that finds most while no set has more than {MOST_FALSE:.1%} false; among equals "
        "the one nearest to cleanvision's own. Scores are 0 (bad) to 1, and what is below the threshold is found; that "
        "of odd_size is in distances between the quartiles."
    )
    return ["### Looks", about, table(head, rows)]


def likeness(figures: Figures, row: Figures) -> str:
    default = row["alike"] == ALIKE and row["bits"] == figures["pairs"]["bits"]
    return f"**{row['alike']:g}**" if default else f"{row['alike']:g}"


def near(sets: list[Figures], table: Table) -> list[str]:
    about = (
        "Pairs whose hashes differ in at most so many bits of 64 and whose pixels are at least so much alike. **Bold** "
        f"is the default: as many bits as the number of pictures allows, and {ALIKE:g}, the least at which what pairs "
        f"pictures of two classes, and so is surely false, stays below {MOST_FALSE:.1%}. (Eight flowers, 0.2 %, do lie "
        "in two folders.) Most of what is called false is none: of 27 pairs of untouched flowers 25 were one shot, to "
        "the eye."
    )
    parts = ["### Near copies", about]
    for figures in sets:
        kinds, each = list(figures["near"][0]["found"]), figures["planted_of_each"]
        rows = [
            [
                str(row["bits"]), likeness(figures, row), *(share(row["found"][kind], each) for kind in kinds),
                share(row["false"], figures["untouched"]), share(row["across_classes"], figures["untouched"]),
            ]
            for row in figures["near"]
            if row["alike"] in LEAST_ALIKE and row["bits"] in SHOWN_BITS
        ]  # fmt: skip
        parts += [f"#### {figures['set']}", table(["bits", "alike", *kinds, "false", "false, of two classes"], rows)]
    return parts


def published(sets: list[Figures], table: Table) -> list[str]:
    parts = []
    for figures in sets:
        if (known := figures.get("published")) is None:
            continue
        tested = {(row["bits"], row["alike"]): row["of_test_in_train"] for row in figures["near"]}
        rows = [
            [
                str(row["bits"]), likeness(figures, row),
                share(tested[row["bits"], row["alike"]], figures["untouched_test"]),
                share(row["same_shot"], known["same_shot"]), share(row["similar"], known["similar"]),
                str(row["not_listed"]),
            ]
            for row in known["rows"]
            if row["alike"] in LEAST_ALIKE and row["bits"] in SHOWN_BITS
        ]  # fmt: skip
        head = ["bits", "alike", "test pictures with a near copy in train", "of the listed: same shot",
                "of the listed: very similar", "not listed"]  # fmt: skip
        about = (
            "Nobody planted these. People who looked at the pairs (ciFAIR, https://arxiv.org/abs/1902.00423) listed "
            "2.9 % of the test pictures as a shot that is in train too or nearly so."
        )
        parts += [f"#### {figures['set']}'s own", about, table(head, rows)]
    return parts


def speed(sets: list[Figures], table: Table) -> str:
    rows = [
        [f["set"], f"{f['side']} px", spread(f["speed"]["looks"]), spread(f["speed"]["hashes"]),
         f"{f['pairs']['cpu_s']:.1f} ({f['pairs']['bits']} bits, {f['pairs']['candidates']:,} pairs)"]
        for f in sets
    ]  # fmt: skip
    head = ["set", "size", "looks, pictures per CPU second", "hashes, pictures per CPU second", "all pairs, CPU s"]
    return "\n\n".join(["### Speed of the measurements", table(head, rows)])


def main() -> None:
    from benchmarks.render import read

    sets = [*read("planted-flowers.json"), *read("planted-cifar10.json")]
    for rule in KINDS:
        print(f"{rule}: {chosen(sets, rule)} (cleanvision {PUBLISHED.get(rule)})")


if __name__ == "__main__":
    main()
