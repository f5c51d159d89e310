"""The tables of what orchestration costs for results.md. "" where one was not measured."""

from benchmarks.render_speed import Read, Table, on, spread


def sections(read: Read, table: Table) -> list[str]:
    return [overhead(read, table), nights(read, table)]


def overhead(read: Read, table: Table) -> str:
    parts = []
    for f in read("overhead.json"):
        rows = []
        for length in f["lengths"]:
            for kind in ("plain", "flow"):
                row = length[kind]
                seconds = [spread(row[key], 2) for key in ("import_s", "chain_s", "chain_cpu_s")]
                rows.append([f"{length['epochs']}", kind, *seconds])
            added = [spread(length[f"added_{key}"], 2) for key in ("import_s", "chain_s", "chain_cpu_s")]
            rows.append([f"{length['epochs']}", "**the flow adds**", *added])
        parts += [
            "## What orchestration costs",
            "Digits, from the first stage to the verdict: the stages called one after the other, and the flow with a "
            f"Prefect server that stands. In turns, {f['repeats']} each, {f['threads']} thread; median, lowest and "
            f"highest, differences within a pair; {on(f)}",
            table(["epochs", "chain", "imports s", "chain s", "chain CPU s"], rows),
        ]
        if reckoned := f["ten_minutes"]:
            parts.append(
                f"Once: {reckoned['once_s']:.2f} s (goal under {f['goals']['once_s']:.0f}). For each second of "
                f"training: {1000 * reckoned['per_second_cpu_s']:.1f} ms of processor time, by all but the thread that "
                f"trains. Together "
                f"{reckoned['share_of_ten_minutes']:.2%} of ten minutes (goal under "
                f"{f['goals']['share_of_ten_minutes']:.0%}), reckoned. The server's own processor time is not in these."
            )
    return "\n\n".join(parts)


def nights(read: Read, table: Table) -> str:
    parts = []
    for f in read("nights.json"):
        many = f["back_to_back"]
        rows = [
            ["from the request to the checkpoint of the first step, s", spread(f["first_step_s"], 2)],
            ["runs asked for at once", f"{many['runs']}, every {many['trained_every']}th of which trains"],
            ["how they ended", ", ".join(f"{state}: {num}" for state, num in many["states"].items())],
            ["attempts", ", ".join(f"{times}: {num}" for times, num in many["attempts"].items())],
            ["run folders made", str(many["run_folders"])],
            ["processes left", str(many["processes_left"])],
            ["requests that were sent again after a 503", str(many["asked_again"])],
            ["seconds for a run", f"{many['seconds_per_run']:.1f}"],
            ["the database grows by, kB a run", f"{many['database_bytes_per_run'] / 1000:.0f}"],
        ]
        parts += [
            "## Runs of a deployment",
            f"`trainserve deploy` with digits, {f['threads']} threads; median, lowest and highest; {on(f)}",
            table(["what", "figure"], rows),
            *([f"Beside: {many['beside']}."] if "beside" in many else []),
        ]
    return "\n\n".join(parts)
