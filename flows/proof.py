"""How the exported model was proved, as the terminal and the Prefect UI show it. No Prefect here."""

from models.cards import ModelCard, Parity, Way

Row = dict[str, str | int | float]


def told(card: ModelCard) -> str:
    """One clause with the figures."""
    parity, rehearsal = card.parity, card.rehearsal
    asked: list[Way | Parity] = [parity, *(way for way in parity.ways if way.name == "http")]
    largest = max(one.largest_difference for one in asked)
    changed = max(one.changed_answers for one in asked)
    how = "over HTTP too, " if len(asked) > 1 else ""
    said = f"{parity.n:,} test pictures answered alike, {how}within {largest:.0e}"
    said += f", {changed} answers changed" if changed else ""
    if rehearsal is None:
        return said
    if rehearsal.fault is not None:
        return f"{said}; the service on it {rehearsal.fault}"
    return f"{said}; {rehearsal.p50_ms:.1f} ms a request, {rehearsal.p95_ms:.1f} at the 95th percentile"


def parity_rows(card: ModelCard) -> list[Row]:
    """Against the trained network that is given the same files on a CPU."""
    return [
        {
            "asked": way.title,
            "test pictures": way.n,
            "largest difference": f"{way.largest_difference:.1e}",
            "in class": way.worst,
            "changed answers": way.changed_answers,
        }
        for way in card.parity.ways
    ]


def rehearsal_said(card: ModelCard) -> str:
    """A sentence; empty where there was none."""
    one = card.rehearsal
    if one is None:
        return ""
    if one.fault is not None:
        return f"**The service on it {one.fault}.**"
    overload = ", ".join(f"{count:,} with {status}" for status, count in (one.overload or {}).items())
    return (
        f"A service on it was ready after {one.started_s:.1f} s, took {one.p50_ms:.1f} ms a request (95th percentile "
        f"{one.p95_ms:.1f} ms), answered {overload} while it was overloaded, and stopped within {one.stopped_s:.1f} s."
    )
