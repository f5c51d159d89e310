"""Every benchmark, and the page: `python -m benchmarks.run_all ../shared/data` (about two hours on 2 cores)."""

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def main() -> None:
    data = sys.argv[1] if len(sys.argv) > 1 else "../shared/data"
    for command in (["accuracy.py", "--data", data], ["serving.py", "--data", data], ["render.py"]):
        subprocess.run([sys.executable, str(HERE / command[0]), *command[1:]], check=True)


if __name__ == "__main__":
    main()
