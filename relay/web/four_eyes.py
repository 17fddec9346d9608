"""Four eyes: what the directory's policy wants two people for is asked for by one and approved by another, then done.

``policy.four_eyes`` names the acts: ``replay`` (a message of this centre is sent again to others), ``quarantine-release`` (a
refusal is overruled) and ``purge`` (content goes: retention run by hand, a received message discarded). What the node does by
itself, such as the hourly retention, is no operator's act and waits for nobody.

People are told apart by the ``person`` of their client, not by the client: one person with two tokens is one person, and a token
that is nobody's alone can't be used here. What was asked for rests in the store for an hour, restart or not. It is approved in
one transaction and done in the next, so after a crash in between it stands as ``approved`` and may be approved again; each of the
acts may be done twice without harm.

Errors raised: ``NotAllowed`` (``no-person``, ``same-person``), ``NotFound`` (``unknown-approval``), ``Conflict``
(``approval-pending``, ``approval-over``), and those of the act.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import Literal

from starlette.requests import Request

from relay.audit import AuditStep
from relay.clients import Client
from relay.desk import Order
from relay.errors import Conflict, NotAllowed, NotFound, Refused
from relay.received import Act
from relay.store import Connection, approvals
from relay.store.approvals import Approval
from relay.web.callers import caller
from relay.web.record import commit
from relay.web.served import Here, here

Action = Literal["replay", "quarantine-release", "purge"]

HOUR_MS = 3_600_000
DUE = "what is due"
"""The subject of a purge that is of no one message: what retention's time is up for."""


async def asked(request: Request, action: Action, subject: str, reason: str) -> Approval | None:
    """Return what waits for a second person now, or None when the policy wants but one: then the act is to be done."""
    here_ = here(request)
    if action not in here_.centre.directory.policy.four_eyes:
        return None
    client, person = _person(request)
    now = here_.centre.now()
    new = Approval(secrets.token_hex(6), action, subject, reason, client.actor, person, now, now + HOUR_MS, "pending")

    def ask(connection: Connection) -> Approval:
        waits = approvals.pending(connection, action, subject, now)
        if waits is None:
            approvals.add(connection, new)
            _note(connection, here_, AuditStep.APPROVAL_ASKED, new, client, reason)
            return new
        if waits.person != person:
            sentence = f"{waits.asked_by} asked for the same, and waits for a second person: approve {waits.id}."
            raise Conflict("approval-pending", sentence)
        return waits

    return await commit(here_.centre, ask)


async def approve(request: Request, id_: str, why: str) -> Approval:
    """Approve what another person asked for, and do it."""
    here_ = here(request)
    client, person = _person(request)
    if id_ in here_.approving:
        raise Conflict("approval-over", f"{id_} is being done at this moment.")
    here_.approving.add(id_)
    try:
        found = await commit(here_.centre, partial(_approved, here_=here_, id_=id_, client=client, person=person, why=why))
        await _carry_out(here_, found, f"{found.asked_by} and {client.actor}", f"{found.reason}; {why}")
        return await _ended(here_, id_, "done")
    finally:
        here_.approving.discard(id_)


async def refuse(request: Request, id_: str, why: str) -> Approval:
    """Say no to what was asked for; whoever asked may take it back so."""
    here_ = here(request)
    client, _ = _person(request)
    now = here_.centre.now()

    def refuse(connection: Connection) -> Approval:
        found = _open(connection, id_, now)
        approvals.decide(connection, id_, "refused", client.actor, now, why)
        _note(connection, here_, AuditStep.APPROVAL_REFUSED, found, client, why)
        return _find(connection, id_)

    return await commit(here_.centre, refuse)


async def listed(here_: Here, limit: int, *, everything: bool) -> list[Approval]:
    """Return what waits for a second person, or everything that was asked for, the newest first."""
    now = here_.centre.now()
    return await here_.centre.store.read(partial(approvals.listed, now=now, limit=limit, everything=everything))


def state(here_: Here, one: Approval) -> str:
    """Return where an approval stands; a pending one whose hour is over has expired."""
    return "expired" if one.state == "pending" and one.expires_at <= here_.centre.now() else one.state


def _approved(connection: Connection, here_: Here, id_: str, client: Client, person: str, why: str) -> Approval:
    now = here_.centre.now()
    found = _open(connection, id_, now)
    if found.person == person:
        raise NotAllowed("same-person", f"{found.asked_by} asked for this; another person must approve it.")
    approvals.decide(connection, id_, "approved", client.actor, now, why)
    _note(connection, here_, AuditStep.APPROVAL_GIVEN, found, client, why)
    return found


async def _carry_out(here_: Here, found: Approval, actor: str, why: str) -> None:
    """Do what was approved. What can't be done is noted as failed; trouble of the node leaves it approved, to be tried again."""
    try:
        await _act(here_, found, actor, why)()
    except Refused:
        await _ended(here_, found.id, "failed")
        raise


def _act(here_: Here, found: Approval, actor: str, why: str) -> Callable[[], Awaitable[object]]:
    node = here_.node
    if found.action == "replay":
        return partial(node.desk.replay, Order(found.subject, why, actor))
    if found.action == "quarantine-release":
        return partial(node.received.release, Act(found.subject, actor, why))
    if found.subject == DUE:
        return partial(node.retention.purge, actor=actor, why=why)
    return partial(node.received.discard, Act(found.subject, actor, why))


async def _ended(here_: Here, id_: str, state_: Literal["done", "failed"]) -> Approval:
    def end(connection: Connection) -> Approval:
        approvals.end(connection, id_, state_)
        return replace(_find(connection, id_), state=state_)

    return await commit(here_.centre, end)


def _person(request: Request) -> tuple[Client, str]:
    """Return who asks, a client of one person, and that person."""
    client = caller(request)
    if client is None or client.somebody is None:
        name = client.name if client is not None else "nobody"
        raise NotAllowed("no-person", f"The token of {name} is no one person's, and the policy wants two people for this.")
    return client, client.somebody


def _open(connection: Connection, id_: str, now: int) -> Approval:
    found = _find(connection, id_)
    if found.state == "approved" or (found.state == "pending" and found.expires_at > now):
        return found
    was = "its hour is over" if found.state == "pending" else f"it is {found.state}"
    raise Conflict("approval-over", f"{id_} can't be decided any more: {was}.")


def _find(connection: Connection, id_: str) -> Approval:
    found = approvals.find(connection, id_)
    if found is None:
        raise NotFound("unknown-approval", "Nobody asked for an approval with this id.")
    return found


def _note(connection: Connection, here_: Here, step: AuditStep, one: Approval, client: Client, why: str) -> None:
    said = f"{one.id} {one.subject}: {why}"
    leaf = here_.centre.audit.leaf(step, here_.centre.now(), code=one.action, actor=client.actor, why=said)
    here_.centre.audit.append(connection, [leaf])
