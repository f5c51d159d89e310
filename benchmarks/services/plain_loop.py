"""No service: decode and classify the same file again and again in one thread.

python -m benchmarks.services.plain_loop BUNDLE PICTURE SECONDS
"""

import json
import statistics
import sys
import time
from pathlib import Path

from models.bundle.bundle import Bundle


def main(folder: Path, picture: Path, seconds: float) -> None:
    bundle, data = Bundle.open(folder), picture.read_bytes()
    for _ in range(20):
        bundle.classify(data)
    times: list[float] = []
    used, end = time.process_time(), time.perf_counter() + seconds
    while (begun := time.perf_counter()) < end:
        bundle.classify(data)
        times.append(time.perf_counter() - begun)
    used = time.process_time() - used
    cuts = statistics.quantiles(times, n=100, method="inclusive")
    told = {"requests_per_s": len(times) / sum(times), "requests_per_cpu_s": len(times) / used}
    print(json.dumps(told | {"p50_ms": cuts[49] * 1e3, "p99_ms": cuts[98] * 1e3}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3]))
