"""A figure as part of a page. No torch here."""

import re

from markupsafe import Markup, escape

from models.evaluation import plots


def inline(svg: bytes, description: str) -> Markup:
    """A figure as part of the page: its colours become the page's, so that it follows light and dark."""
    text = svg.decode()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"<style[^>]*>.*?</style>", "", text, flags=re.DOTALL)
    text = re.sub(r' id="[a-zA-Z0-9.]+_\d+"', "", text)  # figure_1, axes_1, ... would occur once per figure
    text = re.sub(r' (?:width|height)="[\d.]+pt"', "", text, count=2)
    for old, new in (
        (f"fill: {plots.GROUND.lower()}", "fill: none"),
        (plots.GROUND.lower(), "var(--card)"),
        (plots.INK.lower(), "var(--ink)"),
        (plots.FAINT.lower(), "var(--line)"),
        (plots.BLUE.lower(), "var(--blue)"),
        (plots.ORANGE.lower(), "var(--orange)"),
    ):
        text = text.replace(old, new)
    return Markup(text.replace("<svg", f'<svg role="img" aria-label="{escape(description)}"', 1))
