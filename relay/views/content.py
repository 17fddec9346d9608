"""What a message says, for a person who has a reason: who asked and why is in the audit record before anything is shown.

The leaf has the step ``content-read``, the message's commitment, who asks, and the reason. A record that can't be written lets
nothing be shown. The content is data of a foreign organisation: it is returned as text, and whoever shows it shows text.

Errors raised: ``NotFound`` (``not-kept-here``), ``Conflict`` (``already-purged``), ``Misconfigured`` and ``StoreTrouble``.
"""

from __future__ import annotations

import json
from functools import partial
from typing import Any

from relay import envelope as wire
from relay import seal
from relay.audit import AuditStep
from relay.centre import Centre
from relay.errors import Conflict, NotFound, Rejected
from relay.store import Connection, traces
from relay.store.traces import ReceivedEvidence, SentEvidence
from relay.views.times import Shown
from relay.web.record import commit
from relay.web.served import Served


class Content(Shown):
    """What a message says, and the marks that whoever reads it must know."""

    text: str
    """The message as JSON, indented; of what is no JSON the very characters."""
    handling: str | None
    """Its handling code; H1 is flagged wherever it is shown."""
    handling_text: str | None
    """The restriction in words that H3 carries."""
    tlp: str | None
    classification: str | None


async def read(node: Served, message: str, actor: str, why: str) -> Content:
    """Return what a message says, once it is on record who reads it and why."""
    centre = node.centre
    side = await centre.store.read(partial(_find, message=message))
    content = await centre.work(partial(_open, centre, message, side))
    commitment = wire.commitments(side.resting.header)[side.position]
    leaf = centre.audit.leaf(AuditStep.CONTENT_READ, centre.now(), commitments=[commitment], actor=actor, why=why)
    await commit(centre, lambda connection: centre.audit.append(connection, [leaf]))
    return shown(content)


def shown(content: bytes) -> Content:
    """Return content as it is shown."""
    try:
        found: Any = json.loads(content)
    except ValueError:  # also of bytes that are no UTF-8
        found = None
    if not isinstance(found, dict):
        text = content.decode(errors="replace")
        return Content(text=text, handling=None, handling_text=None, tlp=None, classification=None)
    marks = {name: _words(found.get(name)) for name in ("handling", "handling_text", "tlp", "classification")}
    return Content(text=json.dumps(found, ensure_ascii=False, indent=2), **marks)


def _words(given: object) -> str | None:
    return given if isinstance(given, str) else None


def _find(connection: Connection, message: str) -> SentEvidence | ReceivedEvidence:
    side = traces.sent(connection, message) or traces.received(connection, message)
    if side is None:
        raise NotFound("not-kept-here", f"Message {message} is not known here, neither sent nor received.")
    return side


def _open(centre: Centre, message: str, side: SentEvidence | ReceivedEvidence) -> bytes:
    if not side.resting.content_key:
        raise Conflict("already-purged", f"Message {message} was refused without being opened: nothing of its content is kept.")
    parsed = wire.parse(side.resting.header + side.resting.body)
    content = seal.content(parsed, centre.storage_key.unwrap(side.resting.content_key), side.position)
    if isinstance(content, Rejected):
        raise Conflict("already-purged", f"Message {message} can't be shown: {content.detail}")
    return content
