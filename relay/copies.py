"""Copies: what of a stored envelope goes to one peer alone, as it is, sealed anew, or as the origin's word that it does not come.

An envelope goes as it is while nothing stands against it. It is sealed anew (same ids, sequences and commitments, another key)
when the peer asks for it, when a key in it may not be used any more, and when not all of it may be sent: what was purged, ended
here or is held by an operator is left out, and runs of what is left become envelopes of their own. What will not come any more
is named for a void; what is held is not.

Errors raised: ``Refused`` (``recipient-without-key``), ``EnvelopeError`` and ``Misconfigured`` (what is damaged in the store).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from relay import envelope as wire
from relay import topology
from relay.centre import Centre
from relay.clock import from_ms
from relay.envelope import MAX_MESSAGES, Envelope
from relay.receipts import Statement, ranges
from relay.seal import Addressee
from relay.store.behind import Again, positions
from relay.store.common import bits

Reason = Literal["split", "cannot-unwrap"]

EVERYTHING = bits(MAX_MESSAGES)
PURGED = "purged"


@dataclass(frozen=True, slots=True)
class Copies:
    """What goes to a peer: envelopes to publish under ``key``, the mask of what is in them, and what to say in a void.

    ``gone`` is the mask of messages that are open there and have no content here any more: they end.
    """

    key: str
    raws: tuple[bytes, ...]
    sent: int
    voids: tuple[Statement, ...]
    gone: int


def make(centre: Centre, again: Again, asked: int = EVERYTHING, reason: Reason | None = None) -> Copies:
    """Return what of an envelope goes to a peer now: those ``asked`` for, by position; seals, so not for the event loop."""
    envelope = wire.parse(again.at_rest.header + again.at_rest.body)
    count = len(envelope.core.messages)
    asked &= bits(count)
    left_out = again.held | again.purged | sum(1 << position for position in again.ended)
    wanted = asked & ~left_out
    whole = not left_out and wanted == bits(count) and again.epoch == envelope.core.epoch
    if reason is None and whole and _keys_usable(centre, envelope, again.recipient):
        raws: tuple[bytes, ...] = (again.at_rest.header + again.at_rest.body,)
    else:
        raws = tuple(_sealed(centre, envelope, again, runs(wanted, split=reason == "split")))
    return Copies(
        key=topology.lane_key(centre.id, again.recipient, again.lane),
        raws=raws,
        sent=wanted,
        voids=tuple(_voids(envelope, again, asked, centre.now())),
        gone=asked & again.purged & again.open,
    )


def runs(mask: int, *, split: bool) -> list[tuple[int, int]]:
    """Return the consecutive positions of a mask as ranges; with ``split`` each on its own."""
    found = positions(mask)
    return [(position, position) for position in found] if split else ranges(found)


def _keys_usable(centre: Centre, envelope: Envelope, recipient: str) -> bool:
    """Return whether the keys that an envelope was signed and sealed with may still be used."""
    now, register = from_ms(centre.now()), centre.directory
    me, peer = register.member(centre.id), register.member(recipient)
    signed_with = me and me.key(envelope.core.key)
    sealed_to = peer and peer.key(envelope.core.recipient(recipient).key)
    return bool(signed_with and signed_with.usable(now) and sealed_to and sealed_to.usable(now))


def _sealed(centre: Centre, envelope: Envelope, again: Again, cut: Sequence[tuple[int, int]]) -> Iterable[bytes]:
    content_key = centre.storage_key.unwrap(again.at_rest.content_key)
    key = centre.sealing_key(again.recipient)
    for first, last in cut:
        yield centre.sealer.again(
            envelope,
            content_key,
            range(first, last + 1),
            [Addressee(again.recipient, key, again.first + first)],
            directory=centre.directory.version,
            now=centre.now(),
            epoch=again.epoch,
        ).raw


def _voids(envelope: Envelope, again: Again, asked: int, now: int) -> Iterable[Statement]:
    """Return what to say of messages that will not come: those ended here, and those without content."""
    core = envelope.core
    for position in positions(asked):
        ended = again.ended.get(position)
        if ended is None and again.purged >> position & 1:
            ended = ("cancelled", now, PURGED)
        if ended is None:
            continue
        state, at, code = ended
        commitments = (core.messages[position].commitment,)
        first = again.first + position
        yield Statement(epoch=again.epoch, lane=again.lane, first=first, commitments=commitments, state=state, time=at, code=code)
