"""Where notifications arrive: an HTTP server and an SMTP server of this machine."""

import json
import threading
from dataclasses import dataclass, field
from email import message_from_bytes
from email.policy import default
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from aiosmtpd.controller import Controller
from lamps import PATIENCE_S

from tests.ports import free_port


class WebSink:
    """`sink.messages`: the bodies that were posted, each with the path it was posted to."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, Any]] = []
        messages = self.messages

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"] or 0)).decode()
                messages.append((self.path, json.loads(body) if body.startswith("{") else body))
                self.send_response(200)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]

    def to(self, path: str) -> list[Any]:
        return [body for to, body in self.messages if to == path]

    def __enter__(self) -> "WebSink":
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


@dataclass
class MailSink:
    """`sink.mails`: (subject, text) of what arrived."""

    mails: list[tuple[str, str]] = field(default_factory=list)

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802, ARG002 - aiosmtpd's
        mail = message_from_bytes(envelope.content, policy=default)
        text = mail.get_body(preferencelist=("plain", "html"))
        self.mails.append((str(mail["subject"]), text.get_content() if text is not None else ""))
        return "250 taken"

    def __enter__(self) -> "MailSink":
        self.port = free_port()
        self._controller = Controller(self, hostname="127.0.0.1", port=self.port, ready_timeout=PATIENCE_S)
        self._controller.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._controller.stop()
