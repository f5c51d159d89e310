"""Every benchmark, and the page: `python -m benchmarks.run_all ../shared/data` (hours on 2 cores).

With a folder for the other trainers' environments as a second argument (`python -m benchmarks.training --help` says
what goes there) training, data path and a budget of 5 minutes are measured beside them. The larger budgets, hours more,
are for `python -m benchmarks.budget --minutes 15 60` alone.
"""

import subprocess
import sys


def main() -> None:
    data = sys.argv[1] if len(sys.argv) > 1 else "../shared/data"
    peers = ["--peers-env", sys.argv[2]] if len(sys.argv) > 2 else []
    cifar, flowers = f"{data}/cifar10.tar.gz", f"{data}/flowers.tar.gz"
    for name, *options in (
        ("accuracy", "--data", data),
        ("budget", "--data", data, "--minutes", "5", *peers),
        ("training", "--data", cifar, *peers),
        ("training", "--data", cifar, "--stem", "published", *peers),
        ("datapath", "--data", cifar, "--photos", flowers, *peers),
        ("start",),
        ("serving", "--data", data),
        ("attention",),
        ("render",),
    ):
        subprocess.run([sys.executable, "-m", f"benchmarks.{name}", *options], check=True)


if __name__ == "__main__":
    main()
