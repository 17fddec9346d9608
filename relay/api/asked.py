"""What an operator asks for, as a request's body: read by the route itself, and told with every place at fault.

Errors raised: ``Refused`` (``bad-request``).
"""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, Field, ValidationError

from relay.errors import Problem, Refused

ASKED_BYTES = 16 * 1024
MOST_REASON = 500
MOST_PROBLEMS = 20

B = TypeVar("B", bound=BaseModel)
Reason = Annotated[
    str, Field(min_length=1, max_length=MOST_REASON, description="who ordered it and why; the audit record keeps it")
]


def asking(model: type[BaseModel]) -> dict[str, Any]:
    """Return what tells OpenAPI that a route takes a body of this model, which the route reads by itself."""
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": model.model_json_schema()}}}}


def read(model: type[B], raw: bytes) -> B:
    """Return a request's body; raise ``Refused`` (``bad-request``) with every place at fault."""
    try:
        return model.model_validate_json(raw)
    except ValidationError as error:
        found = tuple(
            Problem("".join(f"/{part}" for part in one["loc"]), "bad-request", f"{one['msg']}.")
            for one in error.errors(include_input=False, include_url=False)[:MOST_PROBLEMS]
        )
        names = ", ".join(f"`{name}`" for name in model.model_fields)
        raise Refused("bad-request", f"The body must be a JSON object with {names}.", found) from None
