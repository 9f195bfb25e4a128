"""What is known of a request while it is being answered."""

from __future__ import annotations

import math
import time
from contextvars import ContextVar

from starlette.types import Receive, Scope

from serving.core.errors import InvalidInputError

SCOPE_KEY = "serving.request"
"""Where the record stands in the ASGI scope."""
CLIENT_LEFT = 499
"""Status of a request that got no answer; nginx' name for it."""
TIMEOUT_HEADER = b"x-request-timeout-ms"


class RequestRecord:
    """Id, size, status and time limit of one request."""

    __slots__ = ("deadline", "id", "model", "receive", "scope", "size", "status")

    def __init__(self, request_id: str, scope: Scope, receive: Receive) -> None:
        self.id = request_id
        self.scope = scope
        self.receive = receive
        """Tells when the client has gone, once the body has been read."""
        self.status = CLIENT_LEFT
        self.size = "-"
        """What is predicted, as `rows=3` or `pixels=307200`; whoever decodes the request fills it in."""
        self.model: str | None = None
        """Tag of the model that predicts, where the route does not say it."""
        self.deadline = math.inf
        """When the time limit ends, on the monotonic clock; set by `serving.http.deadline`."""

    def expires_in(self) -> float:
        """Seconds until the time limit ends."""
        return self.deadline - time.monotonic()

    def time_limit(self, most: float) -> float:
        """Seconds that the client gives the server, at most `most`.

        Raises:
            InvalidInputError: `X-Request-Timeout-Ms` is not a number of milliseconds above zero.
        """
        text = next((value for name, value in self.scope["headers"] if name == TIMEOUT_HEADER), None)
        if text is None:
            return most
        if not text.isdigit() or len(text) > 9 or int(text) == 0:
            raise InvalidInputError("X-Request-Timeout-Ms: a whole number of milliseconds above zero is required")
        return min(int(text) / 1e3, most)


current_request: ContextVar[RequestRecord] = ContextVar("current_request")
