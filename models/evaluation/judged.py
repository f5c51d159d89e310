"""The checks of a verdict, and the accuracy on worse pictures, for a reader: a section of the report. No torch here."""

from typing import TYPE_CHECKING

from markupsafe import Markup

from models.evaluation import plots
from models.evaluation.inline import inline
from models.evaluation.percent import percent
from models.verdict import MARKS, Check, Kind, Level, Verdict

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PANELS: dict[Kind, tuple[str, str]] = {  # kind -> title, what its strengths are
    "blur": ("Blur", "pixels"),
    "noise": ("Noise", "of 255"),
    "jpeg": ("JPEG", "quality"),
    "brightness": ("Brightness", "times"),
}
UNCHANGED: dict[Kind, tuple[float, str]] = {"jpeg": (101, "as it is"), "brightness": (1, "1")}  # elsewhere 0
CLASSES = {True: "fine", False: "warning", None: ""}
TITLE = "Right answers to worse pictures"


def section(verdict: Verdict) -> Markup:
    """ "" where nothing was checked."""
    if not verdict.checks:
        return Markup("")
    rows = Markup("").join(map(_row, verdict.checks))
    return Markup(
        '<section class="checks"><h2>What was checked</h2>'
        '<p class="soft">A model goes into service when no check has failed; what has a dot was not asked for and '
        "decides nothing.</p><table><tbody>{}</tbody></table>{}</section>"
    ).format(rows, _picture(verdict))


def robustness(levels: tuple[Level, ...], champion: str | None, *, fmt: plots.Format = "svg") -> bytes:
    """Share of right answers over the strength of each change; the first level is of the pictures as they are."""
    theirs = plots.short(champion or "the champion", 60)

    def draw(figure: "Figure") -> None:
        panels = figure.subplots(1, len(PANELS), sharey=True)
        for axes, (kind, (title, unit)) in zip(panels, PANELS.items(), strict=True):
            at, label = UNCHANGED.get(kind, (0, "0"))
            points = [(at, label, levels[0]), *((x.strength, f"{x.strength:g}", x) for x in levels if x.kind == kind)]
            points.sort(key=lambda point: point[0], reverse=kind == "jpeg")
            places = list(range(len(points)))
            if levels[0].champion is not None:
                old = [100 * (level.champion or 0.0) for _, _, level in points]
                axes.plot(places, old, color=plots.ORANGE, linestyle=(0, (4, 2)), marker="s", label=theirs)
            new = [100 * level.challenger for _, _, level in points]
            axes.plot(places, new, color=plots.BLUE, marker="o", label="this model")
            axes.set_xticks(places, [label for _, label, _ in points])
            axes.margins(x=0.12)
            plots.titles(axes, title, unit, "right, %" if kind == "blur" else "")
        if levels[0].champion is not None:
            lines, names = panels[0].get_legend_handles_labels()
            figure.legend(lines, names, loc="outside lower center", ncols=2, frameon=False, labelcolor=plots.INK)

    return plots.render(draw, width=9.0, height=2.9, fmt=fmt)


def _row(check: Check) -> Markup:
    return Markup('<tr class="{}"><td class="n"><strong>{}</strong></td><td>{}</td><td>{}</td></tr>').format(
        CLASSES[check.ok], MARKS[check.ok], check.name, check.said
    )


def _picture(verdict: Verdict) -> Markup:
    if not verdict.robustness:
        return Markup("")
    svg = robustness(verdict.robustness, verdict.champion)
    rows = Markup("").join(map(_figures, verdict.robustness))
    return Markup(
        "<h3>{}, of {:,} test pictures</h3><figure>{}</figure>"
        '<table class="levels"><thead><tr><th>Pictures with</th><th class="n">This model</th>'
        '<th class="n">Champion</th><th class="n">p of a loss</th></tr></thead><tbody>{}</tbody></table>'
    ).format(TITLE, verdict.robustness[0].n, inline(svg, TITLE), rows)


def _figures(level: Level) -> Markup:
    theirs = "" if level.champion is None else percent(level.champion)
    chance = "" if level.p_value is None else f"{level.p_value:.2g}"
    row = '<tr><td>{}</td><td class="n">{}</td><td class="n">{}</td><td class="n">{}</td></tr>'
    return Markup(row).format(level.name, percent(level.challenger), theirs, chance)
