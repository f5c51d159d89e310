"""Who listens on a port of this machine, or has a file open."""

import socket
from contextlib import suppress
from pathlib import Path

LISTEN = "0A"


def taken(port: int) -> bool:
    """Whether something accepts connections there."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def holder(port: int) -> str | None:
    """`process 123 (python -m ...)`; None where that cannot be seen."""
    inodes = set()
    for table in ("tcp", "tcp6"):
        with suppress(OSError):
            inodes |= listening(Path(f"/proc/net/{table}").read_text(), port)
    wanted = {f"socket:[{inode}]" for inode in inodes}
    if not wanted:
        return None
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if any(str(link.readlink()) in wanted for link in (folder / "fd").iterdir()):
                return f"process {folder.name} ({command_of(int(folder.name))})"
    return None


def listening(table: str, port: int) -> set[str]:
    """Inodes of the sockets that listen there, from /proc/net/tcp."""
    rows = (line.split() for line in table.splitlines()[1:])
    return {row[9] for row in rows if row[3] == LISTEN and int(row[1].rpartition(":")[2], 16) == port}


def is_open(file: Path) -> bool:
    """Whether a process that can be looked at has it open; true where none can be."""
    if not Path("/proc/self/fd").is_dir():
        return True
    wanted = str(file.resolve())
    for folder in Path("/proc").glob("[0-9]*/fd"):
        with suppress(OSError):
            if any(str(link.readlink()) == wanted for link in folder.iterdir()):
                return True
    return False


def command_of(pid: int) -> str:
    """The first words of its command line; none where it is gone."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return "gone"
    said = " ".join(words).strip()
    return said if len(said) <= 60 else f"{said[:57]}..."
