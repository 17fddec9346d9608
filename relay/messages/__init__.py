"""Messages: what centres say to each other, one pydantic model per kind, and the one way in.

``parse`` is for what a centre's system submits: it takes bytes and returns a model or raises ``Refused`` with *every*
problem, each a JSON Pointer, a stable code and a sentence. ``read`` is for what arrives from a peer: the same checks,
except that fields of a newer minor version are left to the original bytes. Neither stores, sends, or changes
anything, and the bytes remain the message: a model is never written out again.

``strict`` takes only JSON with one meaning; the models check fields; ``rules`` check marks and times against each
other; ``problems`` tells what is wrong in the catalogue's words. A new kind is a module like ``alert`` and one more
member of the union below (and of the list of kinds in ``relay.codes``).

Errors raised: ``Refused``, under the code of the problem when there is one, ``invalid-message`` when there are
several.
"""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

from pydantic import Field, TypeAdapter, ValidationError

from relay import codes
from relay.messages import rules
from relay.messages.alert import Alert
from relay.messages.base import Reference
from relay.messages.problems import problems_of
from relay.messages.seizure import Seizure
from relay.messages.strict import MAX_BYTES, read_document, refusal_of, refuse_infinite

__all__ = ["MAX_BYTES", "MODELS", "Alert", "Message", "Reference", "Seizure", "parse", "read"]

Message: TypeAlias = Alert | Seizure

MODELS: dict[str, type[Message]] = {"alert": Alert, "seizure": Seizure}

_ADAPTER: TypeAdapter[Message] = TypeAdapter(Annotated[Message, Field(discriminator="kind")])
_SUBMIT_RULES = (rules.VERSION, *rules.RULES)


def parse(raw: bytes, *, limit: int = MAX_BYTES) -> Message:
    """Return the message a centre submits, or raise ``Refused`` with every problem it has."""
    return _validated(raw, read_document(raw, limit), _SUBMIT_RULES)


def read(raw: bytes, *, limit: int = MAX_BYTES) -> Message:
    """Return a message a peer sent; fields that a newer minor version added are tolerated, not read."""
    document = read_document(raw, limit)
    if _is_newer(document):
        refuse_infinite(document)  # the model would not look at an unknown field
        return _validated(raw, document, rules.RULES, tolerant=True)
    return _validated(raw, document, _SUBMIT_RULES)


def _validated(raw: bytes, document: dict[str, Any], checks: tuple[rules.Rule, ...], *, tolerant: bool = False) -> Message:
    try:
        # Straight from the bytes: validating the parsed document instead takes half as long again.
        message = _ADAPTER.validate_json(raw, extra="ignore" if tolerant else None)
    except ValidationError as error:
        refuse_infinite(document)
        found, faulty = problems_of(error, document)
        if faulty:
            found += rules.broken(rules.plain(document, faulty), checks, faulty)
        raise refusal_of(tuple(found)) from None
    contradictions = rules.broken(message.__dict__, checks)
    if contradictions:
        raise refusal_of(tuple(contradictions))
    return message


def _is_newer(document: dict[str, Any]) -> bool:
    """Return whether the version is a newer minor one than any this release writes."""
    version = document.get("version")
    return isinstance(version, str) and version not in codes.SCHEMA_VERSIONS
