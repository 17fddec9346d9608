"""Is this node fit to work? One finding for each thing that can be wrong, and what to do about it.

States are those of monitoring systems: ``ok``, ``warning`` (somebody should look), ``critical`` (something does not work) and
``unknown`` (it can't be told now). Nothing is searched for here: the findings are made of what the node observes anyway, so they
may be asked for every few seconds.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from relay import witnessed
from relay.clock import iso
from relay.errors import RelayError, StoreTrouble, catalogue
from relay.heartbeats import MISSED
from relay.observation import Observation
from relay.store import Connection, checkpoints
from relay.views.network import Network, Peer, network
from relay.views.times import Moment, Shown
from relay.web.served import Readiness, Served

State = Literal["ok", "warning", "critical", "unknown"]
STATES: tuple[State, ...] = ("ok", "warning", "critical", "unknown")
"""What an exit status from 0 to 3 stands for."""

URGENT = ("flash", "immediate")
INBOX_ATTENTION = 10_000
FREE_ATTENTION = 4  # times the disk floor
OFFSET_ATTENTION, OFFSET_WRONG = 5.0, 300.0  # seconds
HELD_ATTENTION_MS = 8 * 3_600_000  # a watch: who held it has gone home
COUNTERSIGNED_ATTENTION = 10  # times the pause between two checkpoints
NAMED = 5


class Check(Shown):
    """What one check found."""

    check: str = Field(description="its name, the same at every node")
    state: State
    detail: str = Field(description="a sentence or two")
    action: str = Field(default="", description="what to do; empty when it is well")


class Checks(Shown):
    """Everything that was checked of a node, in a fixed order."""

    centre: str
    at: Moment
    checks: list[Check]


async def checks(node: Served, readiness: Readiness) -> Checks:
    """Check everything that a node knows of itself and of its peers."""
    seen, observed = await network(node, readiness), node.observer.latest
    found = [
        _ready(await readiness.troubles()),
        _broker(seen),
        _store(seen),
        _disk(node),
        _backlog(node, observed),
        _directory(seen),
        _keys(node),
        _peers(seen, MISSED * node.centre.settings.repair.heartbeat_seconds),
        _unreceipted(seen),
        _dead(observed),
        _held(observed),
        _quarantine(observed),
        _requests(observed),
        await _audit(node),
        _own_clock(node) or _clocks(seen),
        _comparison(seen),
    ]
    return Checks(centre=node.centre.id, at=seen.at, checks=found)


def ok(check: str, detail: str) -> Check:
    """Return a finding that all is well."""
    return Check(check=check, state="ok", detail=detail)


def _found(check: str, state: State, detail: str, action: str) -> Check:
    return Check(check=check, state=state, detail=detail, action=action)


def _unknown(check: str) -> Check:
    return _found(check, "unknown", "The node has not looked yet, or can't.", "Ask again in some seconds; see `store`.")


def _ready(troubles: Sequence[RelayError]) -> Check:
    if not troubles:
        return ok("ready", "It can sign, write its store and reach its broker.")
    entry = catalogue().get(troubles[0].code)
    return _found("ready", "critical", " ".join(one.detail for one in troubles), entry.action if entry else "")


def _broker(seen: Network) -> Check:
    if seen.centre.broker_connected:
        return ok("broker", "It takes what the node publishes.")
    action = "See that RabbitMQ runs and has the topology: `relay broker plan DIR`."
    return _found("broker", "critical", "The node is not connected to it, or it takes nothing.", action)


def _store(seen: Network) -> Check:
    if not seen.trouble:
        return ok("store", "It can be read.")
    return _found("store", "critical", " ".join(seen.trouble), "See the node's log, and what `relay explain` says of its codes.")


def _disk(node: Served) -> Check:
    store = node.centre.settings.store
    free, floor = shutil.disk_usage(store.file.parent).free, store.disk_floor_bytes
    text = f"{free // 2**20} MiB free; below {floor // 2**20} MiB no message is taken."
    if free >= FREE_ATTENTION * floor:
        return ok("disk", text)
    return _found("disk", "critical" if free < floor else "warning", text, "Free some disk where the store lies.")


def _backlog(node: Served, observed: Observation | None) -> Check:
    if observed is None:
        return _unknown("backlog")
    unsent, limit = node.pump.waiting, node.centre.settings.limits.queued_envelopes
    text = f"{unsent} envelopes to send (limit {limit}), {observed.waiting} messages for the centre's system."
    if unsent > limit:
        return _found("backlog", "critical", text, "Nothing more is taken until the broker takes some: see `broker`.")
    if unsent > limit // 2 or observed.waiting > INBOX_ATTENTION:
        action = "See that the broker takes envelopes and the system acknowledges messages."
        return _found("backlog", "warning", text, action)
    return ok("backlog", text)


def _directory(seen: Network) -> Check:
    here = seen.centre
    text = f"Version {here.directory_version} is in force, until {iso(here.directory_expires_at)}."
    other = [one.centre for one in seen.peers if one.directory_differs]
    if seen.at >= here.directory_expires_at:
        return _found("directory", "critical", text, "Get a newer directory from the authorities: nothing is taken or sent.")
    if other:
        action = "Compare the digests with the authorities: one of them is not what was signed here."
        return _found("directory", "warning", f"{text} {_names(other)} go by other bytes of that version.", action)
    if seen.at >= here.directory_warn_after:
        return _found("directory", "warning", text, "Get a newer directory from the authorities.")
    return ok("directory", text)


def _keys(node: Served) -> Check:
    if (trouble := node.custody.trouble) is not None:
        entry = catalogue().get(trouble.code)
        return _found("keys", "critical", trouble.detail, entry.action if entry else "")
    if node.custody.warnings:
        return _found("keys", "warning", " ".join(node.custody.warnings), "See `relay key list`.")
    return ok("keys", "The keys and certificates held are valid, and none ends soon.")


def _peers(seen: Network, late: float) -> Check:
    quiet = [one for one in seen.peers if one.state == "silent" or (one.state == "never" and (one.heard_seconds or 0) > late)]
    unmet = [one.centre for one in seen.peers if one.state == "never" and one.heard_at is None]
    said = f" Not heard yet, ever: {_names(unmet)}." if unmet else ""
    if not quiet:
        return ok("peers", f"Heard: {sum(one.state == 'heard' for one in seen.peers)} of {len(seen.peers)}.{said}")
    since = ", ".join(f"{one.centre} since {iso(one.heard_at) if one.heard_at else 'the start'}" for one in quiet[:NAMED])
    return _found("peers", "warning", f"Silent: {since}{_more(quiet)}.{said}", _call(quiet))


def _unreceipted(seen: Network) -> Check:
    late = [one for one in seen.peers if one.late]
    if not late:
        return ok("unreceipted", "No peer is late with what it owes.")
    worst = [(one.centre, one.late[0]) for one in late]
    said = ", ".join(f"{peer}: {alarm.messages} {alarm.precedence} ({alarm.promise}) since {iso(alarm.oldest_at)}"
                     for peer, alarm in worst[:NAMED])  # fmt: skip
    state: State = "critical" if any(alarm.precedence in URGENT for _, alarm in worst) else "warning"
    return _found("unreceipted", state, f"Late: {said}{_more(late)}.", _call(late))


def _dead(observed: Observation | None) -> Check:
    if observed is None:
        return _unknown("dead")
    sent, received = observed.sent_aside.dead, observed.received_aside.dead
    if not sent + received:
        return ok("dead", "Nothing is dead.")
    text = f"Nobody tries by itself any more: {sent} messages sent (once for each recipient), {received} received."
    return _found(
        "dead", "warning", text, "Replay or discard each: `relay message list --state dead`, or Trouble in the console."
    )


def _held(observed: Observation | None) -> Check:
    if observed is None:
        return _unknown("held")
    sides = (observed.sent_aside, observed.received_aside)
    if not (count := sum(side.held for side in sides)):
        return ok("held", "No message is held.")
    since = min((side.held_since for side in sides if side.held_since is not None), default=observed.at)
    text = f"Held by operators: {count} (a sent message once for each recipient), the first since {iso(since)}."
    if observed.at - since < HELD_ATTENTION_MS:
        return ok("held", text)
    action = "Ask who held it and why, then release or discard: `relay message list --state held`."
    return _found("held", "warning", text, action)


def _quarantine(observed: Observation | None) -> Check:
    if observed is None:
        return _unknown("quarantine")
    count = observed.received_aside.quarantined
    if not count:
        return ok("quarantine", "Nothing authentic was refused.")
    text = f"{count} authentic messages were refused on arrival."
    return _found("quarantine", "warning", text, "Ask their origins: `relay quarantine list`.")


def _requests(observed: Observation | None) -> Check:
    if observed is None:
        return _unknown("requests")
    ours, theirs = observed.received, observed.asked
    text = f"Overdue: {ours.overdue} of {ours.awaited} answers owed here, {theirs.overdue} of {theirs.awaited} owed by peers."
    if not ours.overdue + theirs.overdue:
        return ok("requests", text)
    return _found("requests", "warning", text, "See `relay request list --overdue`.")


async def _audit(node: Served) -> Check:
    """Say how long the oldest checkpoint waits for a witness."""
    epoch, named = node.centre.store.epoch, witnessed.witnesses(node.centre.directory, node.centre.id)

    def waiting(connection: Connection) -> int | None:
        known = (checkpoints.last_of(connection, epoch, one) for one in named)
        return checkpoints.waiting_since(connection, epoch, max((one[0] for one in known if one), default=0))

    if not named:
        return ok("audit", "The directory names no witness of this centre's record.")
    try:
        since = await node.centre.store.read(waiting)
    except StoreTrouble:
        return _unknown("audit")
    limit = COUNTERSIGNED_ATTENTION * node.centre.settings.audit.checkpoint_seconds
    if since is None or node.centre.now() - since <= 1000 * limit:
        return ok("audit", f"Witnesses ({_names(list(named))}) countersign the record.")
    text = f"No witness ({_names(list(named))}) has countersigned the record since {iso(since)}."
    return _found("audit", "warning", text, "See that a witness can be reached: `relay peer list`.")


def _own_clock(node: Served) -> Check | None:
    if (doubt := node.centre.doubt()) is None:
        return None
    entry = catalogue().get("clock-doubted")
    return _found("clocks", "critical", doubt, entry.action if entry else "")


def _clocks(seen: Network) -> Check:
    off = [(one.centre, one.clock_offset_seconds or 0.0) for one in seen.peers]
    off = [one for one in off if abs(one[1]) > OFFSET_ATTENTION]
    if not off:
        return ok("clocks", f"No clock of a peer is more than {OFFSET_ATTENTION:.0f} s from this one.")
    said = ", ".join(f"{centre} {offset:+.1f} s" for centre, offset in off[:NAMED])
    state: State = "critical" if any(abs(offset) > OFFSET_WRONG for _, offset in off) else "warning"
    most = "Most peers differ: see to this machine's clock." if 2 * len(off) > len(seen.peers) > 2 else "Tell the peer."
    return _found("clocks", state, f"Clocks that differ: {said}{_more(off)}.", f"{most} Times are set by NTP.")


def _comparison(seen: Network) -> Check:
    differ = [one.centre for one in seen.peers if one.differences]
    if not differ:
        return ok("comparison", "What was sent is what was received, as far as it was compared.")
    text = f"What was sent is not what was received: {_names(differ)}."
    return _found("comparison", "warning", text, "See `relay peer list`, and `relay explain audit-mismatch`.")


def _names(centres: Sequence[str]) -> str:
    return ", ".join(centres[:NAMED]) + _more(centres)


def _more(some: Sequence[object]) -> str:
    return f" and {len(some) - NAMED} more" if len(some) > NAMED else ""


def _call(some: Sequence[Peer]) -> str:
    who = "; ".join(f"{one.centre}: {one.duty.name}, {one.duty.telephone}" for one in some[:NAMED])
    return f"Call the duty officer ({who})."
