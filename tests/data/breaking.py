"""A server between a client and another one, over which only so many bytes go in a connection."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit


@contextmanager
def between(address: str, limit: int) -> Iterator[tuple[str, list[int]]]:
    """(the address to ask instead, the bytes that each connection brought). Beyond `limit` bytes it is cut."""
    host, port = urlsplit(address).hostname, urlsplit(address).port
    passed: list[int] = []
    listening = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with suppress(OSError):  # closed at the end
            while True:
                client, _ = listening.accept()
                server = socket.create_connection((host, port))
                threading.Thread(target=_pass, args=(client, server), daemon=True).start()
                threading.Thread(target=answers, args=(server, client), daemon=True).start()

    def answers(server: socket.socket, client: socket.socket) -> None:
        passed.append(0)
        mine = len(passed) - 1
        with suppress(OSError):
            while passed[mine] < limit and (chunk := server.recv(4096)):
                client.sendall(chunk)
                passed[mine] += len(chunk)
        _close(client, server)

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}", passed
    finally:
        listening.close()


def _pass(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while chunk := source.recv(4096):
            target.sendall(chunk)
    _close(source, target)


def _close(*sockets: socket.socket) -> None:
    for one in sockets:
        with suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
        one.close()
