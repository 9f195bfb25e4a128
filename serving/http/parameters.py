"""Parameters of routes: one declaration for what is accepted and for what the OpenAPI document says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pydantic import TypeAdapter, ValidationError

from serving.core.errors import ErrorDetail, InvalidInputError
from serving.core.validation import shortened
from serving.http.exchange import Exchange

T = TypeVar("T")


def refuse_unknown(exchange: Exchange, *known: str) -> None:
    """Refuse a misspelt parameter, which must not be ignored in silence.

    Raises:
        InvalidInputError: the query has a parameter that is not `known`.
    """
    for name in exchange.query:
        if name not in known:
            field = shortened(name)
            message = f"unknown parameter; there {'are' if len(known) > 1 else 'is'} {', '.join(known) or 'none'}"
            raise InvalidInputError(f"{field}: {message}", details=[ErrorDetail(field, message)])


@dataclass(frozen=True)
class QueryParameter(Generic[T]):
    """One that may be left out. `kind` says what is accepted and is its schema."""

    name: str
    description: str
    kind: TypeAdapter[T]

    def read(self, exchange: Exchange) -> T | None:
        """Its value; `None` when it is not given.

        Raises:
            InvalidInputError: it is not what `kind` accepts.
        """
        text = exchange.query.get(self.name)
        if text is None:
            return None
        try:
            return self.kind.validate_strings(text)
        except ValidationError as error:
            message = error.errors(include_url=False, include_context=False, include_input=False)[0]["msg"]
            raise InvalidInputError(f"{self.name}: {message}", details=[ErrorDetail(self.name, message)]) from error

    def document(self) -> dict[str, Any]:
        """A parameter object of OpenAPI."""
        schema = {key: value for key, value in self.kind.json_schema().items() if key not in ("title", "description")}
        return {
            "name": self.name,
            "in": "query",
            "required": False,
            "description": self.description,
            "schema": schema,
        }
