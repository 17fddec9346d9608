"""What peers tell each other: receipts, marks, nacks, voids, heartbeats and epochs, as the bodies of control envelopes.

A *receipt* is a recipient's signed statement about messages of one origin, named by epoch, lane, sequence and commitment, so it
holds for every re-sealed copy. A *mark* is the origin's statement of what should have arrived in a lane; it travels through that
lane's own queue, behind what it speaks of. A *nack* answers a mark or a gap with the ranges that are missing; it is no verdict
and changes no state. A *void* is the origin's statement that it will not send some sequences (again). A *heartbeat* says that a
node lives, and what it holds of its peer; an *epoch*, that its sender counts anew; a *comparison*, what one side has of the
messages of a time. A receipt is never receipted: a lost one is asked for again by the next mark.

Sequences are inclusive ranges ``(first, last)``; times are milliseconds since the Unix epoch. A body is read strictly where it
matters (no key twice, every known field of its form) and leniently where it may grow: a field or a statement's state that this
release does not know is passed over.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, Literal, TypeVar, get_args

import jiter
from pydantic import AfterValidator, BaseModel, ConfigDict, FailFast, Field, model_validator

from relay.envelope import NUMBER_END, TIME_END, MessageLane
from relay.errors import Rejected

State = Literal["accepted", "delivered", "rejected", "purged"]
STATES: frozenset[str] = frozenset(get_args(State))
TERMINAL: frozenset[str] = frozenset({"delivered", "rejected"})
MAX_RANGES = 256
MAX_COMMITMENTS = 1024
MAX_STATEMENTS = 4096
MAX_APART = 4096
MAX_SHOWN = 2 * 1024 * 1024
"""Characters of a shown header: more than one with the most recipients has in base64."""
MAX_VALUES = 2**19
"""Brackets, braces and commas of a body: more than all that this release knows has in the largest envelope. Millions of empty
lists, in a member that is passed over, would take gigabytes."""

_Number = Annotated[int, Field(ge=0, lt=NUMBER_END)]
_Positive = Annotated[int, Field(ge=1, lt=NUMBER_END)]
_Time = Annotated[int, Field(ge=0, lt=TIME_END)]
_Commitment = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
_Code = Annotated[str, Field(pattern=r"^[a-z0-9-]{1,64}$")]
Range = tuple[_Positive, _Positive]


def _ascending(given: tuple[tuple[int, int], ...]) -> tuple[tuple[int, int], ...]:
    bounds = [bound for pair in given for bound in pair]
    if any(first > last for first, last in given) or any(a >= b for a, b in zip(bounds[1::2], bounds[2::2], strict=False)):
        raise ValueError("ranges are ascending and disjoint")
    return given


Ranges = Annotated[tuple[Range, ...], Field(max_length=MAX_RANGES), FailFast(), AfterValidator(_ascending)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)


class Statement(_Body):
    """One state of consecutive messages: sequence ``first + i`` has commitment ``commitments[i]``."""

    epoch: _Positive
    lane: MessageLane
    first: _Positive
    commitments: Annotated[tuple[_Commitment, ...], Field(min_length=1, max_length=MAX_COMMITMENTS), FailFast()]
    state: Annotated[str, Field(pattern=r"^[a-z-]{1,32}$")]
    time: _Time
    code: _Code | None = None

    @property
    def last(self) -> int:
        """The last sequence it speaks of."""
        return self.first + len(self.commitments) - 1

    @model_validator(mode="after")
    def _rejections_name_a_code(self) -> Statement:
        if self.state in STATES and (self.state == "rejected") != (self.code is not None):
            raise ValueError("a rejection, and nothing else, names its code")
        return self


def _of_known_states(given: tuple[Statement, ...]) -> tuple[Statement, ...]:
    return tuple(statement for statement in given if statement.state in STATES)


class Receipt(_Body):
    """The body of a ``receipt`` envelope; statements of a state unknown here are left out when it is read."""

    statements: Annotated[tuple[Statement, ...], Field(max_length=MAX_STATEMENTS), FailFast(), AfterValidator(_of_known_states)]


class Mark(_Body):
    """The body of a ``mark`` envelope: the highest sequence sent in this lane, and the ranges without a terminal receipt."""

    epoch: _Positive
    lane: MessageLane
    highest: _Positive
    open: Ranges


class Void(_Body):
    """The body of a ``void`` envelope: the origin's signed word about messages that it will not send (again), and why.

    The state is ``expired`` (the deadline passed without proof of delivery: it says no more than that) or ``cancelled`` (the
    origin's operator discarded it). A recipient that has such a message keeps it; the others are no gap any more.
    """

    statements: Annotated[tuple[Statement, ...], Field(min_length=1, max_length=MAX_STATEMENTS), FailFast()]


class Echo(_Body):
    """What a node holds of a peer in one lane: the highest sequence of the highest epoch."""

    epoch: _Positive
    lane: MessageLane
    highest: _Positive


class Heartbeat(_Body):
    """The body of a ``heartbeat`` envelope, sent each way every half minute.

    ``epoch`` is the sender's own, ``echo`` what it holds of the recipient; ``answer`` asks for a heartbeat in return at once.
    ``directory`` and ``digest`` name the version in force and the SHA-256 of its bytes. ``show`` asks the recipient to prove a
    part of its last echo, ``shown`` is the proof: the header of an envelope that the recipient itself signed, base64.
    """

    time: _Time
    epoch: _Positive
    directory: _Positive
    digest: _Commitment
    release: Annotated[str, Field(max_length=64)]
    echo: Annotated[tuple[Echo, ...], Field(max_length=64), FailFast()] = ()
    answer: bool = False
    show: Echo | None = None
    shown: Annotated[str, Field(max_length=MAX_SHOWN)] | None = None


class EpochClosed(_Body):
    """The body of an ``epoch`` envelope: the sender lost its store or went back to an older one, and counts anew.

    Nothing of an epoch before ``epoch`` comes any more, except what is sealed again in the new one under its old id.
    """

    epoch: _Positive
    closed: Annotated[tuple[_Positive, ...], Field(max_length=1024), FailFast()]
    time: _Time


class LaneCount(_Body):
    """How many messages of a lane there are, and the digest of their commitments (:func:`relay.comparison.digest`).

    ``apart`` are commitments that are not counted: messages that ended without a word of their recipient.
    """

    lane: MessageLane
    count: _Number
    digest: _Commitment
    apart: Annotated[tuple[_Commitment, ...], Field(max_length=MAX_APART), FailFast()] = ()


class Comparison(_Body):
    """The body of a ``comparison`` envelope: what one side has of the messages whose ids were given in a time.

    ``of`` is ``sent`` when the sender of this body is their origin and asks, ``received`` in the recipient's answer.
    """

    of: Literal["sent", "received"]
    first: _Time
    until: _Time
    lanes: Annotated[tuple[LaneCount, ...], Field(max_length=16), FailFast()]


class Nack(_Body):
    """The body of a ``nack`` envelope: the missing ranges of a lane; ``mark`` numbers the mark it answers, 0 for none.

    ``reason`` ``split`` asks for one message an envelope, ``cannot-unwrap`` for envelopes sealed anew.
    """

    epoch: _Positive
    lane: MessageLane
    missing: Ranges
    mark: _Number = 0
    reason: _Code | None = None


Body = TypeVar("Body", bound=BaseModel)


def read(model: type[Body], content: bytes) -> Body:
    """Return the body of a control envelope; one of another form raises ``Rejected`` with the code ``bad-control``."""
    if sum(map(content.count, (b"[", b"{", b","))) > MAX_VALUES:
        raise Rejected("bad-control", f"The body of a {model.__name__.lower()} has more values than any of its form.")
    try:
        jiter.from_json(content, catch_duplicate_keys=True, allow_inf_nan=False)
        return model.model_validate_json(content)
    except ValueError as error:
        raise Rejected("bad-control", f"The body of a {model.__name__.lower()} is not of its form.") from error


def write(body: BaseModel) -> bytes:
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
