"""A port for a process of its own, which can say only later that it listens there."""

import contextlib
import secrets
import socket

# Below those that the kernel gives to whoever connects or asks for any, so that none of them takes it meanwhile.
FIRST, LAST = 20_000, 32_000


def free_port() -> int:
    """Drawn at random: other processes run these tests at the same time."""
    while True:
        port = FIRST + secrets.randbelow(LAST - FIRST)
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port
