"""The tables of the service beside other services, of its start, and of an hour under load, for results.md.

None where it was not measured.
"""

from typing import Any

from benchmarks.render_speed import Read, Table, on, spread

HEAD = ["service", "body", "clients", "requests/s", "per CPU s", "of the plain loop", "p50 ms", "p99 ms",
        "p99 of the plain loop's", "failed", "memory MB"]  # fmt: skip


def sections(read: Read, table: Table) -> list[str]:
    besides = [beside(f, table) for f in read("serving-*.json") if "services" in f]
    starts = [started(f, table) for f in read("cold_start.json") if "cases" in f]
    return [*besides, *starts, *(soaked(f, table) for f in read("soak.json") if "memory_mb" in f)]


def beside(f: dict[str, Any], table: Table) -> str:
    loop = f["plain"]
    rows = [["plain loop, no service", "", "", spread(loop["requests_per_s"], 0), spread(loop["requests_per_cpu_s"], 0),
             "1.00", spread(loop["p50_ms"], 2), spread(loop["p99_ms"], 2), "1.00", "", ""]]  # fmt: skip
    rows += [
        [row["contender"], row["body"], row["clients"], spread(row["requests_per_s"], 0),
         spread(row["requests_per_cpu_s"], 0), f"**{spread(row['requests_per_cpu_s_of_plain'], 2)}**",
         spread(row["p50_ms"], 1), spread(row["p99_ms"], 1), spread(row["p99_ms_of_plain"], 1), str(row["failed"]),
         f"{row['memory_mb']['high']:.0f}"]
        for row in f["services"]
    ]  # fmt: skip
    litserve, goals = f["machine"]["litserve"], f["goals"]
    about = (
        f"{f['model']}; a picture of {f['picture_bytes']:,} bytes; {f['runs']} runs, medians, lowest, highest; goals: "
        f"{goals['requests_per_cpu_s_of_plain']} of the plain loop's requests per CPU second at 64 clients, "
        f"{goals['p99_ms_of_plain']} times its p99 at one, {goals['p99_ms_of_plain_at_half']} times at half of "
        "saturation; "
        f"{f'LitServe {litserve}, ' if litserve else ''}{on(f)}"
    )
    return "\n\n".join(["## The service beside other services", about, table(HEAD, rows)])


def started(f: dict[str, Any], table: Table) -> str:
    head = ["model", "workers", "first answer s", "all ready s", "CPU s", "supervisor MB", "a worker MB",
            "a worker, shared pages divided MB"]  # fmt: skip
    rows, told = [], []
    for case in f["cases"]:
        bare = spread(case["import_onnxruntime_s"], 2)
        rows.append([case["model"], "`import onnxruntime` alone", bare, "", "", "", "", ""])
        rows += [
            [case["model"], str(row["workers"]), f"**{spread(row['ready_s'], 2)}**", spread(row["all_ready_s"], 2),
             spread(row["cpu_s"], 2), spread(row["supervisor_mb"]), spread(row["worker_mb"]),
             spread(row["worker_proportional_mb"])]
            for row in case["starts"]
        ]  # fmt: skip
        longest = ", ".join(f"{one['package']} {one['own_s']:.2f}" for one in case["imports"][:8])
        told.append(f"{case['model']}: seconds of imports by package, one worker, all processes, profiled: {longest}.")
    about = (
        f"From `trainserve serve` to the answer of /readyz, caches warm, goal under {f['goal_s']:.0f} s; "
        f"{f['repeats']} starts, medians, lowest, highest; {on(f)}"
    )
    return "\n\n".join(["## The service's start", about, table(head, rows), *told])


def soaked(f: dict[str, Any], table: Table) -> str:
    rows = [
        [name, *(f"{held[key]:.1f}" for key in ("first", "last", "largest")), f"**{held['growth']:.1f}**"]
        for name, held in f["memory_mb"].items()
    ]
    sent, failed = sum(f["sent"].values()), sum(f["failed"].values())
    what = ", ".join(f"{name} {count:,}" for name, count in f["sent"].items())
    divided = ", ".join(f"{held:.0f}" for held in f["worker_proportional_mb"])
    about = (
        f"{f['minutes']:g} minutes at {f['per_second']:g} requests/s; resident MB, first {f['warm_up_min']:g} minutes "
        f"after the start; goal: growth under {f['goal_growth_mb']:.0f} MB; {f['model']}; {on(f)}"
    )
    beside = f" Beside it the machine was busy with {f['beside']}; latency counts from when a request was due."
    ends = (
        f"{sent:,} requests ({what}), {failed} failed, {f['ended_workers']} workers ended. Latency of one picture, p50 "
        f"and p99: {f['p50_ms']:.1f}, {f['p99_ms']:.1f} ms. With shared pages divided, MB of each worker: {divided}."
        f"{beside if f.get('beside') else ''}"
    )
    head = ["process", "first MB", "last MB", "largest MB", "growth MB"]
    return "\n\n".join(["## The service under load for long", about, table(head, rows), ends])
