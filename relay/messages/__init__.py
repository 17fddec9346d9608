"""Messages: what centres say to each other, one pydantic model per kind, and the one way in.

``parse`` is for what a centre's system submits: it takes bytes and returns a model or raises ``Refused`` with *every*
problem, each a JSON Pointer, a stable code and a sentence. ``read`` is for what arrives from a peer: the same checks,
except that fields of a newer minor version are left to the original bytes. Neither stores, sends, or changes
anything, and the bytes remain the message: a model is never written out again. ``warnings`` tells what of a valid
message looks wrong; it refuses nothing.

``strict`` takes only JSON with one meaning; the models check fields; ``rules`` check marks and times against each
other; ``attachments`` the files inside; ``translations`` that each is of a text; ``problems`` tells what is wrong in
the catalogue's words. A new kind is a module like ``alert`` and one more member of the union below (and of the list
of kinds in ``relay.codes``).

Errors raised: ``Refused``, under the code of the problem when there is one, ``invalid-message`` when there are
several.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, TypeAlias

from pydantic import Field, TypeAdapter, ValidationError

from relay import codes
from relay.errors import Problem
from relay.messages import attachments, rules, translations
from relay.messages.alert import Alert
from relay.messages.attachments import LIMITS, MOST, Limits
from relay.messages.base import Reference
from relay.messages.cancel import Cancel
from relay.messages.controlled_delivery import ControlledDelivery
from relay.messages.diffusion import Diffusion
from relay.messages.doubts import warnings
from relay.messages.identification import Identification
from relay.messages.notice import Notice
from relay.messages.operation import Operation
from relay.messages.part import rebuild_parts
from relay.messages.problems import problems_of
from relay.messages.reply import Reply
from relay.messages.request import Request
from relay.messages.seizure import Seizure
from relay.messages.strict import MAX_BYTES, read_document, refusal_of, refuse_infinite
from relay.messages.update import Update

__all__ = [
    "LIMITS",
    "MAX_BYTES",
    "MODELS",
    "Alert",
    "Cancel",
    "ControlledDelivery",
    "Diffusion",
    "Identification",
    "Limits",
    "Message",
    "Notice",
    "Operation",
    "Reference",
    "Reply",
    "Request",
    "Seizure",
    "Update",
    "parse",
    "read",
    "rebuild",
    "warnings",
]

Message: TypeAlias = (
    Alert | Seizure | Notice | Diffusion | Request | Reply | ControlledDelivery | Operation | Identification | Update | Cancel
)

MODELS: dict[str, type[Message]] = {
    "alert": Alert,
    "seizure": Seizure,
    "notice": Notice,
    "diffusion": Diffusion,
    "request": Request,
    "reply": Reply,
    "controlled-delivery": ControlledDelivery,
    "operation": Operation,
    "identification": Identification,
    "update": Update,
    "cancel": Cancel,
}

_ADAPTER: TypeAdapter[Message] = TypeAdapter(Annotated[Message, Field(discriminator="kind")])


def parse(raw: bytes, *, limit: int = MAX_BYTES, limits: Limits = LIMITS) -> Message:
    """Return the message a centre submits, or raise ``Refused`` with every problem it has."""
    return _validated(raw, read_document(raw, limit), limits)


def read(raw: bytes, *, limit: int = MAX_BYTES, limits: Limits = MOST) -> Message:
    """Return a message a peer sent; fields that a newer minor version added are tolerated, not read.

    Attachments are bounded by what any node of the network may be set to send, not by what this one sends.
    """
    document = read_document(raw, limit)
    inner = document.get("message") if document.get("kind") == "update" else None  # elsewhere it is a field like any unknown one
    if _is_newer(document) or _is_newer(inner):
        refuse_infinite(document)  # the model would not look at an unknown field
        return _validated(raw, document, limits, tolerant=True)
    return _validated(raw, document, limits)


def rebuild() -> None:
    """Build the models anew, after ``codes.load`` replaced lists; for the start of a process."""
    rebuild_parts()
    _ADAPTER.rebuild(force=True)


def _validated(raw: bytes, document: dict[str, Any], limits: Limits, *, tolerant: bool = False) -> Message:
    try:
        # Straight from the bytes: validating the parsed document instead takes half as long again.
        message = _ADAPTER.validate_json(raw, extra="ignore" if tolerant else None)
    except ValidationError as error:
        refuse_infinite(document)
        found, faulty = problems_of(error, document)
        if faulty:
            found += _told(document, faulty, found, limits, tolerant=tolerant)
        raise refusal_of(tuple(found)) from None
    checks = rules.RULES if tolerant else rules.SUBMITTED
    contradictions = rules.broken(message.__dict__, checks[message.kind])
    if message.attachments:
        contradictions += attachments.faults(message.attachments, message.handling, limits)
    if message.translations and not tolerant:  # a newer version may have texts that this one does not know
        contradictions += translations.faults(message.translations, message.language, message.__dict__, type(message))
    if isinstance(message, Update):
        contradictions += _inside(message.message.__dict__, (), limits, tolerant=tolerant)
    if contradictions:
        raise refusal_of(tuple(contradictions))
    return message


def _told(
    document: dict[str, Any], faulty: frozenset[str], found: list[Problem], limits: Limits, *, tolerant: bool
) -> list[Problem]:
    """Return what else is wrong with the sound fields of a message that its model refused, and of the body inside."""
    told = _beside(document, faulty, limits, tolerant=tolerant)
    inner, places = document.get("message"), [problem.pointer.split("/")[1:] for problem in found]
    if document["kind"] == "update" and isinstance(inner, dict) and ["message"] not in places:
        names = frozenset(place[1] for place in places if place[:1] == ["message"] and len(place) > 1)
        if "kind" not in names:
            told += _inside(inner, names, limits, tolerant=tolerant)
    return told


def _beside(document: dict[str, Any], faulty: frozenset[str], limits: Limits, *, tolerant: bool) -> list[Problem]:
    checks = rules.RULES if tolerant else rules.SUBMITTED
    # What the model does not know is not sound either: a newer version's field may have the name of another kind's time.
    known = MODELS[document["kind"]].model_fields
    fields = rules.plain({name: value for name, value in document.items() if name in known}, faulty)
    told = rules.broken(fields, checks[document["kind"]], faulty)
    if fields.get("attachments") and "handling" not in faulty:
        told += attachments.faults(fields["attachments"], fields.get("handling", "H0"), limits)
    if fields.get("translations") and not tolerant:
        model = MODELS[document["kind"]]
        told += translations.faults(fields["translations"], fields.get("language"), document, model, faulty)
    return told


def _inside(body: dict[str, Any], faulty: frozenset[str] | tuple[()], limits: Limits, *, tolerant: bool) -> list[Problem]:
    """Return what is wrong between the fields of the new version that an update carries, with their places."""
    found = _beside(body, frozenset(faulty), limits, tolerant=tolerant)
    return [replace(problem, pointer=f"/message{problem.pointer}") for problem in found]


def _is_newer(document: object) -> bool:
    """Return whether the version is a newer minor one than any this release writes."""
    version = document.get("version") if isinstance(document, dict) else None
    return isinstance(version, str) and version not in codes.SCHEMA_VERSIONS
