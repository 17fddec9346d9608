"""The directory in force as operators read it: who the members are, what each may say and hear, its keys, the policy for all.

It also says by which version each peer goes, as its last heartbeat told: whoever goes by another judges by other rules.

Errors raised: ``StoreTrouble`` by :func:`versions` alone (the directory itself is in memory), ``NotFound`` (``unknown-peer``).
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from relay.clock import from_ms, to_ms
from relay.directory import Directory, Entitlement, Member
from relay.errors import NotFound
from relay.store import Connection, peers
from relay.views.member_keys import ListedKey, days_left, keys
from relay.views.peers import Duty
from relay.views.times import Moment, Shown, local
from relay.web.served import Served


class Kept(Shown):
    """How long messages of a kind are kept, in days: unless they say so themselves, and at most."""

    kind: str = Field(description="`other`: every kind that is not named")
    default_days: int
    most_days: int


class Rules(Shown):
    """The policy that every member's node applies."""

    suites: list[str] = Field(description="algorithms that messages may be sealed with, the preferred one first")
    default_expiry_hours: int
    max_expiry_hours: int
    retention: list[Kept]
    nominal_days: int = Field(description="most days for personal data, whatever the kind")
    witnesses: list[str] = Field(description="who countersigns checkpoints; empty: all other active members, up to five")
    key_notice_hours: int
    four_eyes: list[str] = Field(description="acts that take two people: replay, quarantine-release, purge")
    max_envelope_bytes: int
    max_clock_skew_seconds: int = Field(description="how far ahead the time of a heartbeat may lie")


class Right(Shown):
    """A set of crime types x regions x kinds that a member may publish or gets; `*` and `001` stand for all."""

    crime_types: list[str]
    regions: list[str]
    kinds: list[str]
    nominal: bool = Field(description="whether it covers messages with personal data")


class Centre(Shown):
    """A member of the network, in one row."""

    id: str
    name: str
    organisation: str
    seat: str
    country: str | None = Field(description="ISO 3166-1 alpha-2; null for an international organisation")
    status: Literal["active", "suspended"]
    is_self: bool
    state: Literal["heard", "silent", "never"] | None = Field(description="whether its node lives; null for this centre itself")
    time_zone: str
    local_time: str | None = Field(description="what clocks show at its seat; null: its time zone is not known here")
    duty: Duty
    clearance: str
    keys_days: int | None = Field(
        description="whole days until a key to sign or to seal with is missing; null: one is missing now"
    )
    directory_version: int | None = Field(description="by which version it goes; null: not known")
    differs: Literal["version", "bytes"] | None = Field(description="bytes: it has other bytes than ours under the same version")


class Detail(Shown):
    """All that the directory says of a member."""

    centre: Centre
    publish: list[Right]
    subscribe: list[Right]
    reads: dict[str, list[str]] = Field(description="kind: versions that its node can read")
    keys: list[ListedKey] = Field(description="by use, the newest first")


class Listing(Shown):
    """The version of the directory in force here."""

    network: str
    version: int
    digest: str
    previous: str | None
    issued_at: Moment
    warn_after: Moment
    expires_at: Moment
    age: Literal["valid", "due", "expired"]
    days_left: int = Field(description="whole days until it expires")
    reason: str = Field(description="why this version was issued")
    rules: Rules
    members: list[Centre] = Field(description="by id")


def listing(node: Served, known: dict[str, peers.Peer]) -> Listing:
    """Return the directory in force; ``known`` is what peers' heartbeats said (:func:`versions`)."""
    register, now = node.centre.directory, node.centre.now()
    moment = from_ms(now)
    members = sorted(register.members, key=lambda one: one.id)
    return Listing(
        network=register.network,
        version=register.version,
        digest=register.digest,
        previous=register.previous,
        issued_at=to_ms(register.issued_at),
        warn_after=to_ms(register.warn_after),
        expires_at=to_ms(register.expires_at),
        age=register.age(moment),
        days_left=max(0, (register.expires_at - moment).days),
        reason=register.reason,
        rules=_rules(register),
        members=[_centre(node, register, one, known.get(one.id), now) for one in members],
    )


def detail(node: Served, known: dict[str, peers.Peer], centre: str) -> Detail:
    """Return all that the directory says of a member; raise ``NotFound`` (``unknown-peer``) when it lists no such centre."""
    register, now = node.centre.directory, node.centre.now()
    member = next((one for one in register.members if one.id == centre), None)
    if member is None:
        raise NotFound("unknown-peer", f"The directory, version {register.version}, lists no such centre.")
    return Detail(
        centre=_centre(node, register, member, known.get(centre), now),
        publish=[_right(one) for one in member.publish],
        subscribe=[_right(one) for one in member.subscribe],
        reads={kind: list(some) for kind, some in sorted(member.reads.items())},
        keys=keys(member, from_ms(now)),
    )


async def versions(node: Served) -> dict[str, peers.Peer]:
    """Return what is known of the peers' directories from their heartbeats."""

    def read(connection: Connection) -> dict[str, peers.Peer]:
        return peers.known(connection)

    return await node.centre.store.read(read)


def _rules(register: Directory) -> Rules:
    policy = register.policy
    kinds = {**policy.retention.kinds, "other": policy.retention.other}
    return Rules(
        suites=list(policy.suites),
        default_expiry_hours=policy.default_expiry_hours,
        max_expiry_hours=policy.max_expiry_hours,
        retention=[Kept(kind=kind, default_days=one.default_days, most_days=one.most_days) for kind, one in kinds.items()],
        nominal_days=policy.retention.nominal_days,
        witnesses=list(policy.witnesses),
        key_notice_hours=policy.key_notice_hours,
        four_eyes=list(policy.four_eyes),
        max_envelope_bytes=policy.max_envelope_bytes,
        max_clock_skew_seconds=policy.max_ahead_seconds,
    )


def _centre(node: Served, register: Directory, member: Member, heard: peers.Peer | None, now: int) -> Centre:
    mine = member.id == node.centre.id
    shown = local(now, member.time_zone)
    heard = heard if heard is not None and heard.heard_at else None
    return Centre(
        id=member.id,
        name=member.name,
        organisation=member.organisation,
        seat=member.seat,
        country=member.country,
        status=member.status,
        is_self=mine,
        state=None if mine or member.status != "active" else node.heartbeats.state(member.id),
        time_zone=member.time_zone,
        local_time=shown.isoformat(timespec="minutes") if shown else None,
        duty=Duty(name=member.contact.name, telephone=member.contact.telephone, email=member.contact.email),
        clearance=member.clearance,
        keys_days=days_left(member, from_ms(now)),
        directory_version=register.version if mine else heard.directory if heard else None,
        differs=None if mine or heard is None else _differs(register, heard),
    )


def _differs(register: Directory, heard: peers.Peer) -> Literal["version", "bytes"] | None:
    if heard.directory != register.version:
        return "version"
    return "bytes" if heard.digest != register.digest else None


def _right(one: Entitlement) -> Right:
    return Right(crime_types=list(one.crime_types), regions=list(one.regions), kinds=list(one.kinds), nominal=one.nominal)
