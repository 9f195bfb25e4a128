"""How API workers speak HTTP/1.1: uvicorn's protocol, mended where it loses requests or answers in another shape.

uvicorn's parser ends a request at its headers when the client offers to upgrade the connection, and drops the body.
Java's `HttpClient` and `curl --http2` offer HTTP/2 so with their first request. A server may ignore the offer
(RFC 9110, section 7.8), and this one does.
"""

from __future__ import annotations

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from serving.core.errors import MalformedRequestError
from serving.http.errors import error_answer

_HTTP_2 = "this port speaks HTTP/1.1, not HTTP/2 with prior knowledge; gRPC has a port of its own, grpc.port"
_TLS = "this port speaks plain HTTP, not TLS; use http://, or the address of a proxy that speaks TLS"
_WEBSOCKET = "this server has no WebSockets; send HTTP requests"
_UNREADABLE = "this is not a request in HTTP/1.1"
_OF_OFFERS = (b"upgrade", b"http2-settings")


class HttpProtocol(HttpToolsProtocol):
    """One connection. The head of a request with an offer is parsed twice: as it came, then without the offer."""

    def _should_upgrade(self) -> bool:
        """Whether the request is to be left alone for now; asked where the parser believes in an upgrade."""
        # Without the header it is CONNECT, which is answered as other unknown methods are.
        return any(name == b"upgrade" for name, _ in self.headers)

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        while data:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                if (b"upgrade", b"websocket") in ((name, value.lower()) for name, value in self.headers):
                    self.send_400_response(_WEBSOCKET)
                    return
                (end,) = upgrade.args
                data = self._head_without_offer() + data[end:] if self._should_upgrade() else b""
                # The one before reads nothing more where the client has said `Connection: close`.
                self.parser = httptools.HttpRequestParser(self)
                self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
            except httptools.HttpParserError:
                self.send_400_response(self._why(data))
                return
            else:
                return

    def _head_without_offer(self) -> bytes:
        lines = [b" ".join([self.parser.get_method(), self.url, b"HTTP/" + self.parser.get_http_version().encode()])]
        for name, value in self.headers:
            kept = value
            if name == b"connection":
                tokens = [token.strip() for token in value.split(b",")]
                kept = b", ".join(token for token in tokens if token.lower() not in _OF_OFFERS)
            if name not in _OF_OFFERS:
                lines.append(name + b": " + kept)
        return b"\r\n".join([*lines, b"", b""])

    def _why(self, data: bytes) -> str:
        """What the client has to change, told from what cannot be read."""
        if self.parser.get_http_version() == "2.0":
            return _HTTP_2
        return _TLS if data.startswith(b"\x16\x03") else _UNREADABLE

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no request, in the shape that all errors have, and close the connection."""
        self.logger.warning("connection refused: %s", msg)
        answer = error_answer(MalformedRequestError(msg)).add("connection", "close")
        headers = [*self.server_state.default_headers, *answer.headers, (b"content-length", b"%d" % len(answer.body))]
        lines = [name + b": " + value + b"\r\n" for name, value in headers]
        self.transport.write(b"".join([STATUS_LINE[answer.status], *lines, b"\r\n", answer.body]))
        self.transport.close()
