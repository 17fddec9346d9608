"""Every error the relay raises, and the catalogue that explains each code.

The class says who must act and whether the relay tries again by itself; the code says what happened::

    RelayError
    ├── Refused           a caller's input; nothing stored, nothing sent (HTTP 4xx)
    │   ├── NotAllowed    no token, or a token without the role
    │   ├── NotFound      nothing under that id
    │   └── Conflict      the same idempotency key with another body
    ├── Busy              temporary: the node takes no more for now; ask again later
    │   └── TooMany       this caller asks for more than its share; ask again after the seconds it is told
    ├── EnvelopeError     what arrived from the broker
    │   ├── NotAuthentic  no verified sender: counted, a sample kept, nothing signed about it
    │   ├── NotForUs      does not name this centre: dropped and counted
    │   ├── CannotOpen    authentic, but not readable here now: answered with a nack, which is no verdict
    │   ├── Rejected      a verdict on authentic bytes that another try cannot change: a signed rejection
    │   └── OverLimit     authentic, and more than its sender may cost: counted, not kept, nothing signed about it
    ├── BrokerTrouble     node-wide: the node waits and tries again
    ├── StoreTrouble      node-wide: the node stops taking and tries again
    ├── NotReady          node-wide: nothing new is taken until somebody acts; what is under way goes on (HTTP 503)
    └── Misconfigured     settings, keys or directory: the process says what to mend and ends (exit status 78)

A code's meaning, causes and remedy stand in ``errors.toml``, which feeds the API's problem documents, ``relay explain``, the
metrics' ``code`` label and ``docs/reference/errors.md``.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with one place of a message.

    ``pointer`` is a JSON Pointer (RFC 6901; ``""`` is the whole document), ``code`` a code of the catalogue, ``detail`` a
    sentence for people.
    """

    pointer: str
    code: str
    detail: str


class RelayError(Exception):
    """An error with a stable code; ``str()`` of it is the sentence for people.

    ``problems`` lists every place at fault when there is more than one thing to say.
    """

    status = 500

    def __init__(self, code: str, detail: str, problems: tuple[Problem, ...] = ()) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.problems = problems


class Refused(RelayError):
    """A caller's input is refused before anything is stored or sent."""

    status = 422


class NotAllowed(Refused):
    """The caller may not do this."""

    status = 403


class NotFound(Refused):
    """Nothing is known under this id."""

    status = 404


class Conflict(Refused):
    """The request contradicts an earlier one."""

    status = 409


class Busy(RelayError):
    """The node takes no more for now; the same request may succeed later."""

    status = 429


class TooMany(Busy):
    """A caller asks for more than its share; ``seconds`` later the same request would be taken."""

    def __init__(self, code: str, detail: str, seconds: float) -> None:
        super().__init__(code, detail)
        self.seconds = seconds


class EnvelopeError(RelayError):
    """What arrived from the broker can't be taken as it is."""


class NotAuthentic(EnvelopeError):
    """The bytes have no verified sender."""


class NotForUs(EnvelopeError):
    """The envelope does not name this centre as a recipient."""


class CannotOpen(EnvelopeError):
    """The envelope is authentic, but this node can't open or judge it now."""


class Rejected(EnvelopeError):
    """A final verdict on authentic bytes."""


class OverLimit(EnvelopeError):
    """Authentic, but more than its sender may cost here; its origin's marks bring again what matters."""


class BrokerTrouble(RelayError):
    """The broker is unreachable, refuses, or lacks the topology."""

    status = 503


class StoreTrouble(RelayError):
    """The store can't be read or written now."""

    status = 507


class NotReady(RelayError):
    """The node takes no new message until somebody acts: its directory is out of date, or does not count it in."""

    status = 503


class Misconfigured(RelayError):
    """Settings, keys or directory don't allow the process to work."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What the catalogue says of a code."""

    code: str
    title: str
    meaning: str
    action: str
    status: int | None = None
    retried: bool = False


@cache
def catalogue() -> dict[str, Entry]:
    """Return every code with its entry, in the catalogue's order."""
    text = resources.files("relay").joinpath("errors.toml").read_text(encoding="utf-8")
    return {code: Entry(code=code, **entry) for code, entry in tomllib.loads(text).items()}


def http_status(error: RelayError) -> int:
    """Return the HTTP status of an error: the catalogue's for its code, else its class's."""
    entry = catalogue().get(error.code)
    return entry.status if entry and entry.status else error.status
