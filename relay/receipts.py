"""What peers tell each other about messages: receipts, marks and nacks, as the bodies of control envelopes.

A *receipt* is a recipient's signed statement about messages of one origin, named by epoch, lane, sequence and commitment, so it
holds for every re-sealed copy. A *mark* is the origin's statement of what should have arrived in a lane; it travels through that
lane's own queue, behind what it speaks of. A *nack* answers a mark or a gap with the ranges that are missing; it is no verdict
and changes no state. A receipt is never receipted: a lost one is asked for again by the next mark.

Sequences are inclusive ranges ``(first, last)``; times are milliseconds since the Unix epoch.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from relay.errors import Rejected

State = Literal["accepted", "delivered", "rejected"]
TERMINAL: frozenset[str] = frozenset({"delivered", "rejected"})
MAX_RANGES = 256
MAX_COMMITMENTS = 1024

_Number = Annotated[int, Field(ge=0, lt=2**63)]
_Commitment = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
_Lane = Annotated[str, Field(pattern=r"^[a-z]{3,16}$")]
Range = tuple[_Number, _Number]


class _Body(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)


class Statement(_Body):
    """One state of consecutive messages: sequence ``first + i`` has commitment ``commitments[i]``."""

    epoch: _Number
    lane: _Lane
    first: _Number
    commitments: Annotated[tuple[_Commitment, ...], Field(min_length=1, max_length=MAX_COMMITMENTS)]
    state: State
    time: _Number
    code: Annotated[str, Field(pattern=r"^[a-z0-9-]{1,64}$")] | None = None

    @property
    def last(self) -> int:
        """The last sequence it speaks of."""
        return self.first + len(self.commitments) - 1

    @model_validator(mode="after")
    def _rejections_name_a_code(self) -> Statement:
        if (self.state == "rejected") != (self.code is not None):
            raise ValueError("a rejection, and nothing else, names its code")
        return self


class Receipt(_Body):
    """The body of a ``receipt`` envelope."""

    statements: Annotated[tuple[Statement, ...], Field(min_length=1, max_length=4096)]


class Mark(_Body):
    """The body of a ``mark`` envelope: the highest sequence sent in this lane, and the ranges without a terminal receipt."""

    epoch: _Number
    lane: _Lane
    highest: _Number
    open: Annotated[tuple[Range, ...], Field(max_length=MAX_RANGES)]


class Nack(_Body):
    """The body of a ``nack`` envelope: the missing ranges of a lane; ``mark`` is the number of the mark it answers, 0 for none."""

    epoch: _Number
    lane: _Lane
    missing: Annotated[tuple[Range, ...], Field(max_length=MAX_RANGES)]
    mark: _Number = 0
    reason: str | None = None


Body = TypeVar("Body", Receipt, Mark, Nack)


def read(model: type[Body], content: bytes) -> Body:
    """Return the body of a control envelope; one of another form raises ``Rejected`` with the code ``bad-control``."""
    try:
        return model.model_validate_json(content)
    except ValidationError as error:
        raise Rejected("bad-control", f"The body of a {model.__name__.lower()} is not of its form.") from error


def write(body: Receipt | Mark | Nack) -> bytes:
    """Return a body as the compact JSON that goes into a control envelope."""
    return body.model_dump_json(exclude_none=True).encode()


def ranges(sequences: Iterable[int]) -> list[tuple[int, int]]:
    """Return ascending sequences as inclusive ranges."""
    found: list[tuple[int, int]] = []
    for sequence in sequences:
        if found and found[-1][1] == sequence - 1:
            found[-1] = (found[-1][0], sequence)
        else:
            found.append((sequence, sequence))
    return found


def missing(held: Sequence[tuple[int, int]], upto: int) -> list[tuple[int, int]]:
    """Return the ranges of 1..``upto`` that no range of ``held`` (ascending, disjoint) covers."""
    gaps, following = [], 1
    for first, last in held:
        if first > upto:
            break
        if first > following:
            gaps.append((following, first - 1))
        following = max(following, last + 1)
    if following <= upto:
        gaps.append((following, upto))
    return gaps
