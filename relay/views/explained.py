"""What went wrong, in the words of the error catalogue: the code, its title, what it means, and what to do about it."""

from __future__ import annotations

from pydantic import Field

from relay.errors import RelayError, catalogue
from relay.views.times import Shown


class Explained(Shown):
    """A code of the catalogue with its words; ``detail`` says what happened this time, where that is known."""

    code: str
    title: str
    meaning: str
    action: str
    detail: str | None = Field(default=None, description="what happened this time")


def explained(code: str, detail: str | None = None) -> Explained:
    """Return what the catalogue says of a code; of one that it does not know, such as a newer peer's, the code alone."""
    entry = catalogue().get(code)
    if entry is None:
        return Explained(code=code, title=code, meaning="", action="", detail=detail)
    return Explained(code=code, title=entry.title, meaning=entry.meaning, action=entry.action, detail=detail)


def of_error(error: RelayError) -> Explained:
    """Return what an error means."""
    return explained(error.code, error.detail)
