"""benchmarks/results/defaults-*.jsonl -> the tables in docs/defaults.md, each between its two marks.

python -m benchmarks.render_defaults

Of the last line's commit and number of epochs: other lines, of defaults as they were, are left out.
"""

import json
import re
from collections import defaultdict
from pathlib import Path
from statistics import mean, stdev
from typing import Any

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "defaults.md"
Line = dict[str, Any]


def table(lines: list[Line]) -> str:
    """One row a setting: accuracy, and its difference from the default's on the same held-out pictures and seeds."""
    by_setting: dict[str, dict[int, Line]] = defaultdict(dict)
    for line in lines:
        by_setting[line["setting"]][line["seed"]] = line
    base = by_setting["default"]
    order = sorted(by_setting, key=lambda name: (name != "default", -average(by_setting[name], "accuracy")))
    rows = ["| setting | accuracy, mean ± spread | against the default | loss | CPU s | seeds |", "|" + " --- |" * 6]
    for name in order:
        runs = by_setting[name]
        shared = sorted(runs.keys() & base.keys())
        gains = [runs[seed]["accuracy"] - base[seed]["accuracy"] for seed in shared]
        against = "" if name == "default" else points(gains, signed=True)
        accuracy = points([run["accuracy"] for run in runs.values()])
        loss, seconds = average(runs, "loss"), average(runs, "cpu_seconds")
        rows.append(f"| {name} | {accuracy} | {against} | {loss:.3f} | {seconds:.0f} | {len(runs)} |")
    return "\n".join([told(lines), "", *rows])


def of_one_kind(lines: list[Line]) -> list[Line]:
    """Those that may be compared with the last."""

    def kind(line: Line) -> tuple[str, int]:
        return line["machine"]["commit"], line["epochs"]

    return [line for line in lines if kind(line) == kind(lines[-1])]


def average(runs: dict[int, Line], figure: str) -> float:
    return mean(run[figure] for run in runs.values())


def points(values: list[float], *, signed: bool = False) -> str:
    """Mean and standard deviation in per cent."""
    if not values:
        return "–"
    spread = f" ± {100 * stdev(values):.1f}" if len(values) > 1 else ""
    return f"{100 * mean(values):{'+' if signed else ''}.1f}{spread}"


def told(lines: list[Line]) -> str:
    first, machine = lines[0], lines[0]["machine"]
    commits = ", ".join(sorted({line["machine"]["commit"] for line in lines}))
    epochs = sorted({line["epochs"] for line in lines})
    held_out = round(mean(line["n"] for line in lines))
    return (
        f"{epochs[0] if len(epochs) == 1 else f'{epochs[0]} to {epochs[-1]}'} epochs, {held_out:,} pictures held out "
        f"of the development rows for each seed; {first['threads']} thread(s) of {machine['processor']}, "
        f"torch {machine['torch']}, commit {commits}."
    )


def main() -> None:
    text = PAGE.read_text()
    for file in sorted((HERE / "results").glob("defaults-*.jsonl")):
        case = file.stem.removeprefix("defaults-")
        made = table(of_one_kind([json.loads(line) for line in file.read_text().splitlines()]))
        begin, end = f"<!-- {case} -->", f"<!-- end of {case} -->"
        text = re.sub(f"{begin}.*?{end}", lambda _, b=begin, m=made, e=end: f"{b}\n{m}\n{e}", text, flags=re.DOTALL)
    PAGE.write_text(text)


if __name__ == "__main__":
    main()
