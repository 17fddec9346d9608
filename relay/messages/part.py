"""What every model of this package is: frozen, strict, nothing unknown.

Also remembers the models in the order in which they were made, which is the order in which they can be built anew
when an operator replaced a code list: a block always before what holds it.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

_made: list[type[Part]] = []


class Part(BaseModel):
    """What every model of this package shares: frozen, strict, nothing unknown."""

    # Keys repeat and are cached; values rarely do, and a process-wide cache is no place for them.
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, cache_strings="keys")

    @classmethod
    def __pydantic_init_subclass__(cls, **options: Any) -> None:  # noqa: ANN401 - as pydantic declares it
        """Remember a model once it is built."""
        super().__pydantic_init_subclass__(**options)
        _made.append(cls)


def rebuild_parts() -> None:
    """Build every model anew, each before what holds it."""
    for model in _made:
        model.model_rebuild(force=True)
