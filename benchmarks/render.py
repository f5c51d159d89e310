"""benchmarks/results/*.json -> benchmarks/results.md

python -m benchmarks.render
"""

import json
from pathlib import Path
from typing import Any

from benchmarks import (
    render_budget,
    render_fire,
    render_flow,
    render_gpu,
    render_planted,
    render_serving,
    render_size,
    render_speed,
)

HERE = Path(__file__).parent


def read(pattern: str) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted((HERE / "results").glob(pattern))]


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def measured_on(figures: dict[str, Any]) -> str:
    m = figures["machine"]
    packages = ", ".join(f"{name} {m[name]}" for name in ("torch", "onnxruntime", "bentoml", "prefect"))
    return f"{m['processor']}, {m['cores']} cores, Python {m['python']}, {packages}, commit {m['commit']}"


def accuracy() -> str:
    head = ["case", "input", "parameters", "epochs", "fit s", "images/s", "test accuracy (95 % interval)", "test n",
            "all s"]  # fmt: skip
    rows, stages, commands = [], [], []
    for f in read("accuracy-*.json"):
        fit, test = f["fit"], f["test"]
        low, high = test["interval"]["low"], test["interval"]["high"]
        rows.append([
            f["case"], f"{f['image']['height']} x {f['image']['width']} x {f['image']['channels']}",
            f"{fit['parameters']:,}", f"{fit['epochs_run']} of {fit['epochs_planned']}", f"{fit['seconds']:.0f}",
            f"{fit['images_per_s']:.0f}", f"**{test['accuracy']:.1%}** ({low:.1%} to {high:.1%})", str(test["n"]),
            f"{f['seconds']:.0f}",
        ])  # fmt: skip
        stages.append([f["case"], ", ".join(f"{name} {seconds:.1f}" for name, seconds in f["stages"].items())])
        commands.append(f"- {f['case']}: `{f['command']}`; {measured_on(f)}")
    return "\n\n".join(
        [
            "## Accuracy and time of the chain",
            "One run each, seed 0, from an empty home folder (`python -m benchmarks.accuracy --data ../shared/data`, "
            "with `--minutes` as each command has it); + after a commit: with changes that were not committed.",
            table(head, rows),
            "### Seconds in each stage",
            table(["case", "seconds"], stages),
            "### Commands and machine",
            "\n".join(commands),
        ]
    )


def serving() -> str:
    """Of figures of before other services were measured too; "" where there are none."""
    found = [f for f in read("serving-*.json") if "services" not in f]
    if not found:
        return ""
    parts = ["## The service beside a plain loop"]
    for f in found:
        plain = f["plain"]
        rows = [["plain loop, no service", "1", f"{plain['requests_per_s']:.0f}", f"{plain['p50_ms']:.2f}",
                 f"{plain['p99_ms']:.2f}", "", "1.00"]]  # fmt: skip
        rows += [
            ["POST /predict", str(s["clients"]), f"{s['requests_per_s']:.0f}", f"{s['p50_ms']:.2f}",
             f"{s['p99_ms']:.2f}", str(s["not_2xx"] + s["timeouts"] + s["broken"]),
             f"{s['requests_per_s'] / plain['requests_per_s']:.2f}"]
            for s in f["service"]
        ]  # fmt: skip
        parts.append(f"{f['model']}; a picture of {f['picture_bytes']:,} bytes; `{f['command']}`; {measured_on(f)}")
        parts.append(table(["what", "clients", "requests/s", "p50 ms", "p99 ms", "failed", "of the plain loop"], rows))
    return "\n\n".join(parts)


def zoo() -> str:
    """ "" where it was not measured."""
    parts = []
    for f in read("zoo.json"):
        rows = [
            [f"`{row['kind']}`", f"{row['side']} px", f"{row['parameters']:,}", f"{row['flops'] / 1e6:,.1f}",
             render_speed.spread(row["rate"])]
            for row in f["rows"]
        ]  # fmt: skip
        parts += [
            "## Kinds of networks",
            "With their defaults, ten classes, colour; training steps alone, one thread, batches of "
            f"{f['batch']}; median, lowest and highest of {int(f['rows'][0]['rate']['n'])}; {render_speed.on(f)}",
            table(["kind", "picture", "parameters", "MFLOPs forward", "training, pictures per CPU second"], rows),
        ]
    return "\n\n".join(parts)


def attention() -> str:
    """ "" where it was not measured."""
    if not read("attention-*.json"):
        return ""
    parts = ["## Kinds of attention"]
    for f in read("attention-*.json"):
        layer, m = f["layer"], f["machine"]
        parts.append(
            f"One layer, width {layer['dim']}, {layer['heads']} heads, {layer['tokens_in_a_batch']:,} tokens a batch, "
            f"{f['precision']}; `{f['command']}`; {m['processor']}, {f['device']}, torch {m['torch']}, "
            f"commit {m['commit']}. A cell is: milliseconds (share of full attention's), MiB."
        )
        sizes = sorted({row["tokens"] for row in f["rows"]})
        cells = {(row["attention"], row["tokens"]): row["passes"] for row in f["rows"]}
        names = list(dict.fromkeys(row["attention"] for row in f["rows"]))
        for what in ("forward", "forward and backward"):
            rows = [[name, *(cell(cells[name, tokens][what]) for tokens in sizes)] for name in names]
            parts += [f"### {what.capitalize()}, {f['device']}", table(["tokens", *map(str, sizes)], rows)]
    return "\n\n".join(parts)


def cell(figures: dict[str, float]) -> str:
    return f"{figures['ms']:.3g} ({figures['of_full']:.2f}), {figures['mib']:.0f}"


def main() -> None:
    text = "# Results\n\nMade by the scripts in this folder; `python -m benchmarks.render` writes this page.\n\n"
    budget = render_budget.section(read, table)
    pages = (render_speed, render_flow, render_gpu, render_planted, render_size, render_fire, render_serving)
    measured = [part for page in pages for part in page.sections(read, table)]
    parts = [text + accuracy(), budget, zoo(), *measured, serving(), attention()]
    (HERE / "results.md").write_text("\n\n".join(filter(None, parts)) + "\n")


if __name__ == "__main__":
    main()
