"""The table of memory and seconds by the number of pictures for results.md. "" where it was not measured."""

from typing import Any

from benchmarks.render_speed import Read, Table, on

WHAT = {"cold": "of a data set of which nothing is known", "warm": "opened again, then the first training steps"}
LEAST_S = 1.0  # of a stage's CPU seconds at the largest number, from which on their growth is told


def sections(read: Read, table: Table) -> list[str]:
    return [size(f, table) for f in read("size.json")]


def size(f: dict[str, Any], table: Table) -> str:
    parts = [
        "## How large",
        "Each stage of `prepare` in a fresh process, of the archive's pictures at 32 px with a comment each, turned "
        "where it has no more; one run each, on a machine that other work shared, so compare CPU seconds. MB: the most "
        "private memory of the process during the stage + that of the processes that it started, of which there is one "
        "a core, whatever there are of pictures; in brackets what was mapped from files besides, which the system may "
        "drop. A picture's bytes: a line through the process's own at all numbers; a million: that line, extended, not "
        f"measured. Power: by which CPU seconds grow between the two largest numbers; {on(f)}",
    ]
    for what, title in WHAT.items():
        rows = f["rows"][what]
        head = [
            "stage",
            *(f"{row['pictures']:,}: CPU s, MB" for row in rows),
            "bytes a picture",
            "a million, MB",
            "power",
        ]
        body = [
            [one["stage"], *(cell(row, one["stage"]) for row in rows), f"{one['bytes_a_picture']:.0f}",
             f"{one['extended'] / 1e6:.0f}", power(rows[-1], one)]
            for one in f["growth"][what]
        ]  # fmt: skip
        parts += [f"### {what.capitalize()}: {title}", table(head, body)]
    return "\n\n".join(parts)


def cell(row: dict[str, Any], name: str) -> str:
    found = stage(row, name)
    return (
        f"{found['cpu']:.1f}, {found['private'] / 1e6:.0f} + {found['helpers'] / 1e6:.0f} ({found['mapped'] / 1e6:.0f})"
    )


def power(last: dict[str, Any], growth: dict[str, Any]) -> str:
    """Nothing where the stage takes hardly any time: that is noise."""
    return f"{growth['power']:.2f}" if stage(last, growth["stage"])["cpu"] >= LEAST_S else ""


def stage(row: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(one for one in row["stages"] if one["stage"] == name)
    return found
