"""The table of the service beside other services for results.md. "" where it was not measured."""

from typing import Any

from benchmarks.render_speed import Read, Table, on, spread

HEAD = ["service", "body", "clients", "requests/s", "per CPU s", "of the plain loop", "p50 ms", "p99 ms",
        "p99 of the plain loop's", "failed", "memory MB"]  # fmt: skip


def sections(read: Read, table: Table) -> list[str]:
    return [beside(f, table) for f in read("serving-*.json") if "services" in f]


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
