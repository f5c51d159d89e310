"""Servers that are busy: one of a few lines, and a gate in front of a real one."""

import json
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import BaseRequestHandler, ThreadingTCPServer
from typing import Any


@dataclass
class BusyServer:
    """Says 503 as often as it is told to, and then what `answer` gives for a path. `asked`: every request."""

    busy: int = 0
    answer: Callable[[str], tuple[int, Any]] = lambda _: (200, {})
    port: int = 0
    asked: list[tuple[str, str, Any]] = field(default_factory=list)

    @property
    def api(self) -> str:
        return f"http://127.0.0.1:{self.port}/api"

    def answered(self, method: str, path: str, body: bytes) -> tuple[int, Any]:
        if path.startswith("/csrf-token"):  # Prefect's client asks for one first
            return 404, {}
        self.asked.append((method, path, json.loads(body) if body else None))
        if len(self.asked) <= self.busy:
            return 503, {"exception_message": "Service Unavailable"}
        return self.answer(path)

    def __enter__(self) -> "BusyServer":
        this = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1  # an answer leaves in one piece, or its second one waits for the first one to be confirmed

            def answer(self) -> None:
                given = self.rfile.read(int(self.headers["Content-Length"] or 0))
                status, tree = this.answered(self.command, self.path.removeprefix("/api"), given)
                body = json.dumps(tree).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_POST = do_PATCH = answer  # noqa: N815 - as the base class calls them

            def log_message(self, format: str, *args: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class Gate:
    """Refuses with 503 the requests for which `refuses(path, body)` is true, and lets the others through to a server at
    this port; websockets as well."""

    def __init__(self, port: int, refuses: Callable[[str, bytes], bool]) -> None:
        class Handler(BaseRequestHandler):
            def handle(self) -> None:
                head, body = received(self.request)
                if not head:
                    return
                _, path, _ = head.split(b"\r\n")[0].decode().split(" ")
                if refuses(path, body):
                    self.request.sendall(b"HTTP/1.1 503 busy\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
                    return
                if b"upgrade: websocket" not in head.lower():  # each in a connection of its own, so that none is missed
                    lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"connection:")]
                    head = b"\r\n".join([*lines, b"Connection: close"])
                with socket.create_connection(("127.0.0.1", port)) as there:
                    there.sendall(head + b"\r\n\r\n" + body)
                    threading.Thread(target=passed_on, args=(self.request, there), daemon=True).start()
                    passed_on(there, self.request)

        self._server = ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.api = f"http://127.0.0.1:{self._server.server_address[1]}/api"

    def __enter__(self) -> "Gate":
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def received(connection: socket.socket) -> tuple[bytes, bytes]:
    """The lines of a request, and what follows them."""
    data = b""
    while b"\r\n\r\n" not in data:
        if not (more := connection.recv(65536)):
            return b"", b""
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    while lengths and len(body) < int(lengths[0].partition(b":")[2]):
        body += connection.recv(65536)
    return head, body


def passed_on(source: socket.socket, to: socket.socket) -> None:
    """Until the source ends."""
    try:
        while data := source.recv(65536):
            to.sendall(data)
        to.shutdown(socket.SHUT_WR)
    except OSError:
        pass
