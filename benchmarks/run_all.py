"""Every benchmark, and the page: `python -m benchmarks.run_all ../shared/data` (about two hours on 2 cores)."""

import subprocess
import sys


def main() -> None:
    data = sys.argv[1] if len(sys.argv) > 1 else "../shared/data"
    for name, *options in (("accuracy", "--data", data), ("serving", "--data", data), ("attention",), ("render",)):
        subprocess.run([sys.executable, "-m", f"benchmarks.{name}", *options], check=True)


if __name__ == "__main__":
    main()
