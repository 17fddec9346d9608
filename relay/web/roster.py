"""The clients' file while the node runs: read again when it changed, and every change in the audit record.

A change may come through the API or by a command on the node's machine, also while the node is down: what counts is that the file
says something else than the record was told last. A leaf has the step ``client-changed``, the ``code`` (``added``, ``changed``,
``rotated``, ``revoked`` or ``removed``), who did it as ``actor``, and as ``why`` the client, its roles and the reason given.
"""

from __future__ import annotations

import asyncio
import hashlib

from relay.audit import AuditStep
from relay.clients import Client
from relay.errors import Misconfigured, RelayError
from relay.log import Event
from relay.store import Connection, roster
from relay.web.record import commit
from relay.web.served import Here

LOOK_SECONDS = 0.5
BY_HAND = "the clients' file"


async def watch(here_: Here) -> None:
    """Read the file when it changed and write down how, until cancelled."""
    unwritten = True  # what changed while the node was down
    while True:
        try:
            unwritten = here_.clients.reload() or unwritten
            if unwritten:
                await record(here_)
                unwritten = False
        except Misconfigured as error:
            here_.centre.log.error(Event.CLIENTS_UNREADABLE, code=error.code, detail=error.detail)
        except RelayError as trouble:  # it is tried again with the next look
            here_.centre.log.error(Event.STORE_TROUBLE, code=trouble.code, detail=trouble.detail)
        await asyncio.sleep(LOOK_SECONDS)


async def record(here_: Here) -> None:
    """Write a leaf for each client that the record knows otherwise."""
    centre, clients = here_.centre, {one.name: one for one in here_.clients.known}
    now = {name: _digest(one) for name, one in clients.items()}

    def write(connection: Connection) -> list[str]:
        before = roster.known(connection)
        changed = sorted(name for name in now.keys() | before.keys() if now.get(name) != before.get(name))
        leaves = [_leaf(here_, name, clients.get(name), before.get(name)) for name in changed]
        centre.audit.append(connection, leaves)
        if changed:
            roster.note(connection, now)
        return changed

    if changed := await commit(centre, write):
        centre.log.info(Event.CLIENTS_CHANGED, clients=changed)


def _leaf(here_: Here, name: str, client: Client | None, before: str | None) -> bytes:
    if client is None:
        actor, why = BY_HAND, name
    else:
        actor = client.by or BY_HAND
        why = f"{client.actor}: {', '.join(client.roles)}" + (f"; {client.why}" if client.why else "")
    leaf = here_.centre.audit.leaf
    return leaf(AuditStep.CLIENT_CHANGED, here_.centre.now(), code=_what(client, before), actor=actor, why=why)


def _what(client: Client | None, before: str | None) -> str:
    """Return in one word what happened to a client; ``before`` holds its token's digest in front."""
    if client is None:
        return "removed"
    if before is None:
        return "added"
    if client.revoked is not None:
        return "revoked"
    return "changed" if before.startswith(client.token_sha256) else "rotated"


def _digest(client: Client) -> str:
    """Return what the record remembers of an entry: its token's digest, and the digest of the whole."""
    return f"{client.token_sha256} {hashlib.sha256(client.model_dump_json().encode()).hexdigest()}"
