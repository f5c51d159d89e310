"""Every benchmark of a CPU, and the page: `python -m benchmarks.run_all ../shared/data` (hours on 2 cores).

With a folder for the other trainers' environments as a second argument (`python -m benchmarks.training --help` says
what goes there) training, data path and a budget of 5 minutes are measured beside them. The page is written after each;
one that fails is named at the end, and the others go on.

By themselves, since they take hours more, or a GPU: `budget --minutes 15 60`, `defaults`, `cifar_speed`, `gpu_share`,
`scaling`.
"""

import subprocess
import sys


def main() -> None:
    data = sys.argv[1] if len(sys.argv) > 1 else "../shared/data"
    peers = ["--peers-env", sys.argv[2]] if len(sys.argv) > 2 else []
    cifar, flowers = f"{data}/cifar10.tar.gz", f"{data}/flowers.tar.gz"
    failed = []
    for name, *options in (
        ("start",),
        ("overhead",),
        ("nights",),
        ("fire",),
        ("cold_start",),
        ("soak",),
        ("attention",),
        ("zoo",),
        ("decode", "--data", cifar, "--photos", flowers),
        ("planted", "--data", cifar, "--photos", flowers),
        ("cache", "--data", cifar, "--photos", flowers),
        ("size", "--data", cifar),
        ("datapath", "--data", cifar, "--photos", flowers, *peers),
        ("shards", "--data", cifar, "--photos", flowers),
        ("training", "--data", cifar, *peers),
        ("training", "--data", cifar, "--stem", "published", *peers),
        ("serving", "--data", data),
        ("accuracy", "--data", data),
        ("budget", "--data", data, "--minutes", "5", *peers),
    ):
        done = subprocess.run([sys.executable, "-m", f"benchmarks.{name}", *options])
        failed += [] if done.returncode == 0 else [" ".join([name, *options])]
        subprocess.run([sys.executable, "-m", "benchmarks.render"], check=True)
    if failed:
        raise SystemExit(f"failed: {'; '.join(failed)}")


if __name__ == "__main__":
    main()
