"""A real PostgreSQL: Debian's, with a folder and a port of its own, gone with the test."""

import os
import pwd
import shutil
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from lamps import PATIENCE_S

from tests.ports import free_port

OWNER = "postgres"  # it does not run as root; the package makes this user
NAME = "prefect"


def tools() -> Path | None:
    """The newest version's folder of programs; Debian does not put them on the path."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda file: int(file.parts[-3]))
    if found:
        return found[-1].parent
    elsewhere = shutil.which("initdb")
    return Path(elsewhere).resolve().parent if elsewhere else None


@dataclass
class PostgreSQL:
    """`with PostgreSQL(tools()) as database: ...`"""

    bin: Path
    folder: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="trainserve-postgresql-", dir="/tmp")))
    port: int = 0

    @property
    def url(self) -> str:
        """As Prefect takes it."""
        return f"postgresql+asyncpg://{OWNER}@127.0.0.1:{self.port}/{NAME}"

    def __enter__(self) -> "PostgreSQL":
        self.port = free_port()
        if os.getuid() == 0:
            user = pwd.getpwnam(OWNER)
            os.chown(self.folder, user.pw_uid, user.pw_gid)
        data, log = self.folder / "data", self.folder / "log"
        quick = f"-p {self.port} -k {self.folder} -c fsync=off -c full_page_writes=off -c listen_addresses=127.0.0.1"
        self._run("initdb", "-D", str(data), "-U", OWNER, "-A", "trust", "-E", "UTF8", "--no-sync")
        self._run("pg_ctl", "-D", str(data), "-l", str(log), "-o", quick, "-w", "-t", "240", "start")
        self._run("createdb", "-h", "127.0.0.1", "-p", str(self.port), "-U", OWNER, NAME)
        return self

    def __exit__(self, *_: object) -> None:
        self._run("pg_ctl", "-D", str(self.folder / "data"), "-m", "immediate", "-w", "stop")
        shutil.rmtree(self.folder, ignore_errors=True)

    def ask(self, query: str) -> list[list[str]]:
        """Rows of texts."""
        address = ["-h", "127.0.0.1", "-p", str(self.port), "-U", OWNER, "-d", NAME]
        out = self._run("psql", *address, "--no-psqlrc", "--tuples-only", "--no-align", "-c", query)
        return [line.split("|") for line in out.splitlines() if line]

    def _run(self, program: str, *arguments: str) -> str:
        as_owner = ["setpriv", f"--reuid={OWNER}", f"--regid={OWNER}", "--clear-groups"] if os.getuid() == 0 else []
        done = subprocess.run(
            [*as_owner, str(self.bin / program), *arguments],
            cwd="/",  # which anyone may enter
            capture_output=program != "pg_ctl",  # what it starts would hold the pipe
            text=True,
            timeout=PATIENCE_S,
        )
        assert done.returncode == 0, f"{program}: {done.stderr}"
        return done.stdout or ""
