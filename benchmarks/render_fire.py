"""The table of the service under fire for results.md. "" where it was not measured."""

from typing import Any

from benchmarks.render_speed import Read, Table, on


def sections(read: Read, table: Table) -> list[str]:
    return [fire(f, table) for f in read("fire.json")]


def fire(f: dict[str, Any], table: Table) -> str:
    s, full, k, m = f["swaps"], f["saturation"], f["killed"], f["mutated"]
    statuses = ", ".join(f"{status}: {count}" for status, count in sorted(m["statuses"].items()))
    rows = [
        [f"{s['swaps']} swaps and {s['bad']} bad candidates at {s['rate']:g} requests/s",
         f"{s['during']['n']} requests, {s['failed']} failed, {s['wrong']} not as the version named would answer"],
        ["latency before, p50 and p99 ms", pair(s["without"])],
        ["latency during the swaps, p50 and p99 ms", pair(s["during"])],
        ["memory of the worker before and after, MiB", f"{s['before_mib']:.0f}, {s['after_mib']:.0f}"],
        [f"10 times the capacity of {full['capacity_per_s']:.0f} large pictures/s, queue of {full['queue']}",
         f"{full['accepted']['n']} accepted, {full['refused']['n']} refused with 429, {full['other']} neither"],
        ["time to 429, p50 and p99 ms",
         f"{pair(full['refused'])}; {full['refused_within_50_ms']:.1%} within 50 ms"],
        ["latency at half the capacity, p50 and p99 ms", pair(full["half"])],
        ["latency of the accepted, p50 and p99 ms", pair(full["accepted"])],
        ["the first request afterwards, ms",
         f"{full['first_afterwards_ms']:.1f}; {full['refused_afterwards']} refused"],
        [f"`kill -9` of one of two workers at {k['rate']:g} requests/s",
         f"{k['failed']} of {k['requests']} failed; two again after {k['back_s']:.1f} s"],
        [f"{m['requests']:,} changed requests", statuses],
        ["memory of the worker after a third and after all, MiB", f"{m['before_mib']:.0f}, {m['after_mib']:.0f}"],
    ]  # fmt: skip
    about = "A toy model whose right answers are known; the sender shares the cores; latency from when a request is due"
    return "\n\n".join(["## Under fire", f"{about}; {on(f)}", table(["what", "figure"], rows)])


def pair(figures: dict[str, float]) -> str:
    return f"{figures['p50_ms']:.1f}, {figures['p99_ms']:.1f}"
