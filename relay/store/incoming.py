"""Rows of what this centre receives: sealed envelopes, their messages' way to the centre's system, and the receipts made.

A message is known by (origin, id) for as long as it is kept, so a second copy, re-sealed or not, has no effect. Every sequence of
an authentic envelope is closed once it was judged, whatever the verdict; what is not closed below a lane's highest is a gap.
The states of a message here: ``waiting`` (stored), ``handed`` (given out, not yet acknowledged), ``deferred`` (the system wants
it again at a known time), ``held`` (an operator parked it), ``dead`` (nobody tries again by itself), ``delivered``
(acknowledged), ``withdrawn`` (given out, then purged by a recall before it was acknowledged), ``rejected`` (refused after it was
stored, or recalled), ``quarantined`` (refused on arrival, kept for an operator). A purged message keeps
its row and its envelope's header. How a message gets from one state to the next stands in :mod:`relay.store.handing` and
:mod:`relay.store.aside`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, bindparam, func, select, text

from relay.envelope import MAX_MESSAGES, Core, Envelope, commitments, without
from relay.keeping import DAY_MS, Kept
from relay.receipts import MAX_COMMITMENTS
from relay.store import closing, flags, found, kept, moved, recalled, voided
from relay.store.closing import Range
from relay.store.common import Resting, resting, upsert
from relay.store.moved import Again
from relay.store.rows import Insert, Row
from relay.store.tables import ASIDE, HEARD, INBOX_ENVELOPE, INBOX_MESSAGE, RECEIPT_OUT, RECEIPT_RANGE

QUARANTINE_MS = 365 * DAY_MS  # how long what was refused is kept for an operator
MOST_RECEIPTS = 4096
ENDED = recalled.CODES | {voided.CODE}
"""Why a message was over before it came: of such a one nothing is kept, and no operator need look at it."""
SET_ASIDE = text(f"inbox_message.{ASIDE}")
OPEN = text("inbox_message.state IN ('waiting', 'handed')")  # as in the index: SQLite would not see that bound values fit it

# Built once: these run for every envelope.
_KNOWN = select(INBOX_MESSAGE.c.id, INBOX_MESSAGE.c.envelope, INBOX_MESSAGE.c.position).where(
    INBOX_MESSAGE.c.origin == bindparam("of_origin"), INBOX_MESSAGE.c.id.in_(bindparam("ids", expanding=True))
)
_ENVELOPE_KNOWN = select(INBOX_ENVELOPE.c.n).where(
    INBOX_ENVELOPE.c.origin == bindparam("of_origin"), INBOX_ENVELOPE.c.id == bindparam("of_id")
)
_ENVELOPES = select(INBOX_ENVELOPE).where(INBOX_ENVELOPE.c.n.in_(bindparam("numbers", expanding=True)))
_HEADERS = select(
    INBOX_ENVELOPE.c.n, INBOX_ENVELOPE.c.epoch, INBOX_ENVELOPE.c.lane, INBOX_ENVELOPE.c.first, INBOX_ENVELOPE.c.header
).where(INBOX_ENVELOPE.c.n.in_(bindparam("numbers", expanding=True)))
_HEARD = select(HEARD.c.number).where(
    HEARD.c.origin == bindparam("of_origin"), HEARD.c.epoch == bindparam("of_epoch"), HEARD.c.kind == bindparam("of_kind")
)
_ADD_ENVELOPE = Insert(
    "inbox_envelope", ("origin", "id", "epoch", "lane", "first", "header", "body", "content_key", "received_at")
)
_ADD_MESSAGES = Insert(
    "inbox_message",
    (
        "origin", "id", "envelope", "position", "rank", "deadline", "state", "code", "at", "flags", "attempts", "purge_at",
        "found", "purged_at",
    ),
)  # fmt: skip
_ADD_RECEIPT = Insert("receipt_out", ("recipient", "id", "raw", "created_at"))
_ADD_RANGES = Insert("receipt_range", ("receipt", "origin", "epoch", "lane", "first", "last"))


@dataclass(frozen=True, slots=True)
class Arrival:
    """An opened envelope to take in: the sequence of its first message here, and per message the code of its refusal, or None.

    ``kept`` is what is kept of each message, None of one that can't be read. Of an envelope that was not opened
    (``content_key`` is empty) nothing but the header is kept, nor of what is refused while too much of its origin's is
    (``crowded``).
    """

    envelope: Envelope
    first: int
    content_key: bytes
    rank: int
    verdicts: tuple[str | None, ...]
    kept: tuple[Kept | None, ...]
    crowded: bool = False


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of an arrival, by position in its envelope; ``again`` are duplicates under sequences that are new.

    ``over`` says that nothing did: the lane of its sender has too many gaps.
    """

    accepted: tuple[int, ...]
    rejected: dict[int, str]
    duplicate: tuple[int, ...]
    forked: tuple[int, ...]
    again: tuple[Again, ...] = ()
    over: bool = False


@dataclass(frozen=True, slots=True)
class Place:
    """What a receipt must name of a received message; ``recall`` says that it is an update or cancel."""

    id: str
    origin: str
    epoch: int
    lane: str
    sequence: int
    commitment: str
    recall: bool


def take(connection: Connection, arrival: Arrival, at: int) -> Taken:
    """Store what is new of an arrival and close its sequences; a copy of what is known changes nothing.

    What contradicts something known is a fork and is not stored: a known id with another commitment, a new id under a sequence
    that is closed, a new message in an envelope whose id is known. What its origin declared void before it came is refused.
    """
    core = arrival.envelope.core
    known = _known(connection, core.origin, [item.id for item in core.messages])
    forked = _forked(connection, arrival.envelope, known)
    new = [position for position, item in enumerate(core.messages) if item.id not in known]
    first = arrival.first
    taken = closing.close(connection, core.origin, Range(core.epoch, core.lane, first, first + len(core.messages) - 1))
    if taken is None:
        return Taken((), {}, (), (), over=True)
    contradicts = bool(new) and _is_known(connection, core.origin, core.id)
    if contradicts:
        taken = [(first, first + len(core.messages) - 1)]
    fresh = [position for position in new if not any(low <= first + position <= high for low, high in taken)]
    late = _void(connection, core, first, [position for position in new if position not in fresh], contradicts)
    forked += [position for position in new if position not in fresh and position not in late]
    dead = recalled.dead(connection, core.origin, {core.messages[position].id: arrival.kept[position] for position in fresh})
    codes = [dead.get(item.id) or code for item, code in zip(core.messages, arrival.verdicts, strict=True)]
    if late:
        fresh = sorted([*fresh, *late])
        codes = [voided.CODE if position in late else code for position, code in enumerate(codes)]
    copies = [position for position, item in enumerate(core.messages) if item.id in known and position not in forked]
    unstated = [position for position in copies if not any(low <= first + position <= high for low, high in taken)]
    again = _again(connection, arrival, fresh, codes, unstated, at)
    rejected = {position: code for position in fresh if (code := codes[position]) is not None}
    return Taken(
        accepted=tuple(position for position in fresh if position not in rejected),
        rejected=rejected,
        duplicate=tuple(position for position, item in enumerate(core.messages) if item.id in known),
        forked=tuple(forked),
        again=again,
    )


def unknown(connection: Connection, core: Core) -> list[int]:
    """Return the positions of an envelope's messages that are not known here."""
    known = _known(connection, core.origin, [item.id for item in core.messages])
    return [position for position, item in enumerate(core.messages) if item.id not in known]


def is_news(connection: Connection, origin: str, epoch: int, kind: str, number: int) -> bool:
    """Return whether a control envelope's number is higher than any heard before of its kind, and remember it."""
    if number <= heard(connection, origin, epoch, kind):
        return False
    row = {"origin": origin, "epoch": epoch, "kind": kind, "number": number}
    upsert(connection, HEARD, [row], ["number"])
    return True


def heard(connection: Connection, origin: str, epoch: int, kind: str) -> int:
    """Return the highest number heard of a kind of control envelope; 0 for none."""
    return connection.execute(_HEARD, {"of_origin": origin, "of_epoch": epoch, "of_kind": kind}).scalar() or 0


def envelopes(connection: Connection, numbers: Iterable[int]) -> dict[int, Resting]:
    """Return received envelopes at rest by number."""
    rows = connection.execute(_ENVELOPES, {"numbers": list(numbers)})
    return {row.n: resting(row) for row in rows}


def waiting(connection: Connection) -> int:
    """Return how many messages the centre's system has not acknowledged."""
    query = select(func.count()).select_from(INBOX_MESSAGE).where(OPEN)
    return connection.execute(query).scalar_one()


def quarantined(connection: Connection, origin: str | None = None) -> int:
    """Return how many authentic messages were refused on arrival and are kept, of one origin or of all."""
    query = select(func.count()).select_from(INBOX_MESSAGE).where(SET_ASIDE, INBOX_MESSAGE.c.state == "quarantined")
    if origin is not None:
        query = query.where(INBOX_MESSAGE.c.origin == origin)
    return connection.execute(query).scalar_one()


def add_receipt(connection: Connection, recipient: str, receipt_id: str, raw: bytes, ranges: Sequence[Range], at: int) -> None:
    """Store a receipt as it will be sent, and which sequences it speaks of, so that it can be sent again whole."""
    number = _ADD_RECEIPT.number(connection, (recipient, receipt_id, raw, at))
    _ADD_RANGES.add(connection, [(number, recipient, one.epoch, one.lane, one.first, one.last) for one in ranges])


def receipts(
    connection: Connection, origin: str, epoch: int, lane: str, ranges: Iterable[tuple[int, int]], most: int, turn: int = 0
) -> list[bytes]:
    """Return the stored receipts that speak of these sequences of an origin's lane, oldest first, at most ``most``.

    When there are more, each ``turn`` brings others, so that none is left out for good.
    """
    found: set[int] = set()
    for first, last in ranges:
        query = select(RECEIPT_RANGE.c.receipt).where(
            RECEIPT_RANGE.c.origin == origin,
            RECEIPT_RANGE.c.epoch == epoch,
            RECEIPT_RANGE.c.lane == lane,
            RECEIPT_RANGE.c.first <= last,
            RECEIPT_RANGE.c.last >= first,
            RECEIPT_RANGE.c.last < last + MAX_COMMITMENTS,  # no statement is longer, and the index ends here
        )
        found.update(connection.execute(query.limit(MOST_RECEIPTS)).scalars())
        if len(found) >= MOST_RECEIPTS:
            break
    chosen = sorted(found, reverse=True)
    start = turn % max(-(-len(chosen) // most), 1) * most
    rows = connection.execute(
        select(RECEIPT_OUT.c.raw).where(RECEIPT_OUT.c.n.in_(chosen[start : start + most])).order_by(RECEIPT_OUT.c.n)
    )
    return [row.raw for row in rows]


def places(connection: Connection, rows: Sequence[Any]) -> list[Place]:
    """Return where received messages stand, given their rows."""
    if not rows:
        return []
    found = connection.execute(_HEADERS, {"numbers": list({row.envelope for row in rows})})
    sent = {row.n: (row, commitments(row.header)) for row in found}
    return [_place(row, *sent[row.envelope]) for row in rows]


def _place(row: Any, envelope: Any, sent: list[str]) -> Place:
    return Place(
        id=row.id,
        origin=row.origin,
        epoch=envelope.epoch,
        lane=envelope.lane,
        sequence=envelope.first + row.position,
        commitment=sent[row.position],
        recall=bool(row.flags & flags.RECALL),
    )


def _is_known(connection: Connection, origin: str, envelope: str) -> bool:
    return connection.execute(_ENVELOPE_KNOWN, {"of_origin": origin, "of_id": envelope}).scalar() is not None


def _known(connection: Connection, origin: str, ids: Sequence[str]) -> dict[str, Any]:
    rows = connection.execute(_KNOWN, {"of_origin": origin, "ids": list(ids)})
    return {row.id: row for row in rows}


def _void(connection: Connection, core: Core, first: int, positions: Sequence[int], contradicts: bool) -> set[int]:
    """Return which new messages under closed sequences were declared void, so that they come late and are no fork."""
    if not positions or contradicts:
        return set()
    void = voided.sequences(connection, core.origin, core.epoch, core.lane, [first + position for position in positions])
    return {position for position in positions if first + position in void}


def _forked(connection: Connection, envelope: Envelope, known: dict[str, Any]) -> list[int]:
    """Return the positions whose id is known with another commitment: the origin contradicts itself."""
    if not known:
        return []
    headers = envelopes(connection, {row.envelope for row in known.values()})
    held_ = {n: commitments(kept.header) for n, kept in headers.items()}
    return [
        position
        for position, item in enumerate(envelope.core.messages)
        if (row := known.get(item.id)) is not None and held_[row.envelope][row.position] != item.commitment
    ]


def _again(
    connection: Connection, arrival: Arrival, fresh: Sequence[int], codes: Sequence[str | None], unstated: Sequence[int], at: int
) -> tuple[Again, ...]:
    """Store what is new of an arrival, and let known messages under new sequences go by those; return these."""
    core = arrival.envelope.core
    known = {core.messages[position].id: position for position in unstated} if arrival.content_key else {}
    rows = moved.find(connection, core.origin, known)
    moving = moved.newer(rows, core.epoch)
    if fresh or moving:
        number = _insert(connection, arrival, fresh, codes, at, moved.whole(moving, known))
        moved.move(connection, moving, number, known)
    return moved.again(connection, rows, known)


def _insert(
    connection: Connection,
    arrival: Arrival,
    fresh: Sequence[int],
    codes: Sequence[str | None],
    at: int,
    also: Collection[int],
) -> int:
    """Store an envelope with its new messages and the content of these and ``also`` others; return its number.

    Of what was recalled or void before it came nothing but the header is kept, nor of a copy: its content rests elsewhere.
    """
    core, body = arrival.envelope.core, arrival.envelope.body
    content = {*also, *(position for position in fresh if not _is_header_only(arrival, codes[position]))}
    if len(content) < len(core.messages):
        body = without(arrival.envelope.header, body, set(range(len(core.messages))) - content)
    header, key = arrival.envelope.header, arrival.content_key
    row = (core.origin, core.id, core.epoch, core.lane, arrival.first, header, body, key, at)
    number = _ADD_ENVELOPE.number(connection, row)
    if not fresh:
        return number
    _ADD_MESSAGES.add(connection, [_message_row(arrival, number, position, codes[position], at) for position in fresh])
    accompanying = [
        kept.Message(core.messages[position].id, one, _found(number, position, at), (core.origin,))
        for position in fresh
        if codes[position] is None and (one := arrival.kept[position]) is not None
    ]
    kept.add(connection, core.origin, accompanying, at, received=True)
    kept.refer(connection, core.origin, _refused_updates(arrival, fresh, codes))
    return number


def _refused_updates(arrival: Arrival, fresh: Sequence[int], codes: Sequence[str | None]) -> dict[str, Kept]:
    """Return the updates that go into quarantine, by id: a later recall of their thread has to find their content, too."""
    refused = {position: arrival.kept[position] for position in fresh if codes[position] is not None}
    return {
        arrival.envelope.core.messages[position].id: one
        for position, one in refused.items()
        if one is not None and one.recall is not None and one.recall.kind == "update"
    }


def _found(envelope: int, position: int, at: int) -> int:
    return found.number(at, envelope * MAX_MESSAGES + position, received=True)


def _is_header_only(arrival: Arrival, code: str | None) -> bool:
    return code in ENDED or not arrival.content_key or (arrival.crowded and code is not None)


def _message_row(arrival: Arrival, envelope: int, position: int, code: str | None, at: int) -> Row:
    item = arrival.envelope.core.messages[position]
    one = arrival.kept[position] if code is None or code in ENDED else None
    return (
        arrival.envelope.core.origin,
        item.id,
        envelope,
        position,
        arrival.rank,
        item.deadline,
        "waiting" if code is None else "rejected" if code in ENDED or arrival.crowded else "quarantined",
        code,
        at,
        flags.of(one) if one else 0,
        0,  # attempts
        one.purge_at if one else at + QUARANTINE_MS,
        _found(envelope, position, at),
        at if _is_header_only(arrival, code) else None,
    )
