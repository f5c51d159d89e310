"""HTTP/1.1 as httptools reads it, which costs less than h11, with limits, and with a body after `Upgrade`."""

import httptools
from uvicorn.config import HTTP_PROTOCOLS
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

MOST_HEAD_BYTES = 16_384  # of the request line and the headers, as h11 allows


class Protocol(HttpToolsProtocol):
    """One connection. What comes before a body, or after a chunked one, is kept until it is complete: here, up to a
    limit. Beyond it the sender is told 400 and cut off."""

    _counted = 0  # bytes of complete headers and trailers of this message
    _in_head = False  # within headers, or where trailers may be
    _anew = False  # and that since the last bytes were read
    _unfinished = 0  # bytes that came since, those apart that were read with its beginning
    _in_trailers = False  # the headers of this message are complete
    _whole: RequestResponseCycle | None = None  # the last request that has arrived whole

    def data_received(self, data: bytes) -> None:
        self._anew = False
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._go_on_without_upgrade(data[upgrade.args[0] :])
            return
        except httptools.HttpParserError:
            self._refuse()
            return
        self._unfinished = self._unfinished + len(data) if self._in_head and not self._anew else 0
        if self._unfinished > MOST_HEAD_BYTES:
            self._refuse()

    def on_message_begin(self) -> None:
        self._counted, self._in_head, self._anew, self._in_trailers = 0, True, True, False
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count(len(name) + len(value) + len(b": \r\n"))
        if not self._in_trailers:  # a key, say, or a type, that a proxy has not seen: RFC 9110, 6.5.1
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._in_head, self._in_trailers = False, True
        hosts = sum(name == b"host" for name, _ in self.headers)
        if hosts > 1 or (hosts == 0 and self.parser.get_http_version() == "1.1"):  # RFC 9112, 3.2
            raise httptools.HttpParserError("one Host is to be named")
        if not self.parser.should_upgrade():
            super().on_headers_complete()

    def on_chunk_header(self) -> None:
        self._in_head = self._anew = True  # the last chunk, of no bytes, may be followed by trailers

    def on_chunk_complete(self) -> None:
        self._in_head = False

    def on_body(self, body: bytes) -> None:
        self._in_head = False
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._in_head = False
        if not self.parser.should_upgrade():
            super().on_message_complete()
            self._whole = self.cycle

    def _go_on_without_upgrade(self, rest: bytes) -> None:
        """The same request anew, as one that asks for no other protocol. Nobody speaks one here, and the parser takes
        the body for it: that of a Java client, which offers HTTP/2 with its first request."""
        method = self.parser.get_method()
        if method == b"CONNECT":
            self._refuse()
            return
        line = b"%s %s HTTP/%s\r\n" % (method, self.url, self.parser.get_http_version().encode())
        kept = [(name, value) for name, value in self.headers if name not in (b"upgrade", b"connection")]
        head = b"".join(b"%s: %s\r\n" % header for header in [*kept, (b"connection", b"close")])
        self.parser = httptools.HttpRequestParser(self)
        self.data_received(line + head + b"\r\n" + rest)

    def _count(self, length: int) -> None:
        """Raises what the parser hands on to `data_received`."""
        self._counted += length
        if self._counted > MOST_HEAD_BYTES:
            raise httptools.HttpParserError("the headers are too long")

    def _refuse(self) -> None:
        """Whoever sent what is wrong: a whole request before it waits for its answer, and nothing after that."""
        if self._whole is not None and not self._whole.response_complete:
            self._whole.keep_alive = False
            if self.pipeline and self.pipeline[0][0] is not self._whole:
                self.pipeline.popleft()
        elif not self.transport.is_closing():
            self.send_400_response("Invalid HTTP request received.")


def use() -> None:
    """For every server that this process starts; BentoML's worker, which starts ours, lets nobody choose."""
    HTTP_PROTOCOLS["auto"] = f"{__name__}:{Protocol.__name__}"
