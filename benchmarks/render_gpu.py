"""The tables of what GPUs did, for results.md. "" where one was not measured."""

from benchmarks.render_speed import Read, Table, on

ABOUT = (
    "Loop: the first layer measured, training, and a validation after each epoch; the published records' clock runs "
    "while they test too: loop and test. Training on nine tenths holds a tenth out for validation, as any run of this "
    "project does. From the command: a process that decodes nothing, trains once and tests. Mean ± standard deviation."
)


def sections(read: Read, table: Table) -> list[str]:
    return [cifar(read, table), share(read, table), scaling(read, table)]


def cifar(read: Read, table: Table) -> str:
    rows, commands = [], []
    for f in read("cifar-speed-*.json"):
        of, jpeg = f["of_runs"], f.get("jpeg") or {}
        rows.append(
            [
                f["experiment"]["name"],
                f["device"],
                "all, as the records" if f["as_records"] else "nine tenths",
                mean(of["loop_s"], "{:.2f}"),
                mean(of["loop_and_test_s"], "{:.2f}"),
                mean(of["training_s"], "{:.2f}"),
                mean(f["command_s"], "{:.1f}"),
                f"{(f['first'] or f['runs'][0])['loop_s']:.1f}",
                mean(of["test_accuracy"], "{:.2%}"),
                mean(jpeg.get("original", {}).get("test_accuracy"), "{:.2%}"),
                "" if not jpeg else f"{jpeg['costs']:.2%} ± {jpeg['standard_error']:.2%}",
                "" if jpeg.get("seconds_to_equal") is None else f"{jpeg['seconds_to_equal']:.2f}",
                mean(of.get("utilisation"), "{:.1%}"),
                str(of["loop_s"]["n"]),
            ]
        )
        commands.append(f"- {on(f)}")
    if not rows:
        return ""
    head = [
        "preset",
        "device",
        "trained on",
        "loop s",
        "loop and test s",
        "training alone s",
        "from the command s",
        "first loop of a process s",
        "test accuracy",
        "on original pixels",
        "JPEG costs ± standard error",
        "to the equal of 94 %, s",
        "of the bfloat16 peak",
        "runs",
    ]
    return "\n\n".join(["## CIFAR-10 in seconds", ABOUT, table(head, rows), "\n".join(commands)])


def share(read: Read, table: Table) -> str:
    parts = []
    for f in read("gpu-share.json"):
        rows = [
            [
                row["kind"],
                f"{row['share']:.1%}",
                f"{row['images_per_s']:,.0f}",
                "" if row.get("utilisation") is None else f"{row['utilisation']:.1%}",
            ]
            for row in f["rows"]
        ]
        parts += [
            "## Share of a default training in which the GPU computes",
            f"{f['trained_on']:,} pictures of CIFAR-10, {f['rows'][0]['epochs']} epochs and their validations, one run "
            f"each, {f['device']}; {on(f)}",
            table(["network", "share of the time (goal 95 %)", "images/s", "of the bfloat16 peak"], rows),
        ]
    return "\n\n".join(parts)


def scaling(read: Read, table: Table) -> str:
    parts = []
    for f in read("scaling.json"):
        rows = [
            [str(row["devices"]), row["device"], f"{row['images_per_s']:,.0f}", f"{row['gain']:.2f}"]
            for row in f["rows"]
        ]
        parts += [
            "## One training on several devices",
            f"`{f['kind']}`, one run each; {on(f)}",
            table(["devices", "which", "images/s", "times one"], rows),
        ]
    return "\n\n".join(parts)


def mean(figures: dict[str, float] | None, form: str) -> str:
    """mean ± standard deviation."""
    return f"{form.format(figures['mean'])} ± {form.format(figures['std'])}" if figures else ""
