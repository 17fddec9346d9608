"""Who is signed in: sessions in memory, that end by themselves.

A session is 256 random bits in a cookie; the node keeps their SHA-256 alone. It ends when nothing was done for some minutes
(``console.session_minutes``; a page that only keeps itself up to date does nothing), some hours after it began
(``console.session_hours``), when its client is revoked, expires or is changed (roles, person, password, token), with a sign-out,
and with the node. There is a bounded number: a new one ends the one that was not used for longest.

It also holds what its forms carry. A form's token is an HMAC under the session's own secret over the address that it is sent to
and the number of times one was sent there, so it is good for one act, once: the one that was sent before is known again
(``form-used``), any other was never given out (``bad-csrf``).

Errors raised: ``NotAllowed`` (``bad-csrf``) and ``Conflict`` (``form-used``).
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic

from relay.clients import Client, Clients
from relay.errors import Conflict, NotAllowed
from relay.settings import ConsoleSettings

MOST = 256
MOST_ADDRESSES = 1000
MOST_NOTICES = 8
MOST_REMEMBERED = 32
"""How many tokens that were sent to one address are still known again; older ones are as unknown as forged ones."""


@dataclass(slots=True, eq=False)
class Session:
    """Somebody signed in; times are monotonic seconds."""

    client: Client
    began: float
    seen: float
    secret: bytes = field(default_factory=lambda: secrets.token_bytes(32), repr=False)
    sent: dict[str, int] = field(default_factory=dict)
    notices: list[str] = field(default_factory=list)

    def token(self, address: str) -> str:
        """Return what a form to an address carries until it was sent."""
        return self._token(address, self.sent.get(address, 0))

    def use(self, address: str, given: str) -> None:
        """Take the token of a form that was sent to an address; raise when it was sent before, or was never given out."""
        count = self.sent.get(address, 0)
        if hmac.compare_digest(self._token(address, count).encode(), given.encode()):
            self._count(address, count + 1)
            return
        for past in range(max(0, count - MOST_REMEMBERED), count):
            if hmac.compare_digest(self._token(address, past).encode(), given.encode()):
                raise Conflict("form-used", "This form was sent before; what it asks for was not done again.")
        raise NotAllowed("bad-csrf", "The form carries no token of this session for this act.")

    def say(self, notice: str) -> None:
        """Keep a sentence for the next page."""
        self.notices = [*self.notices, notice][-MOST_NOTICES:]

    def heard(self) -> list[str]:
        """Return what was kept for the next page, once."""
        said, self.notices = self.notices, []
        return said

    def _token(self, address: str, count: int) -> str:
        return hmac.new(self.secret, f"{address}\n{count}".encode(), hashlib.sha256).hexdigest()

    def _count(self, address: str, count: int) -> None:
        if len(self.sent) >= MOST_ADDRESSES and address not in self.sent:
            self.sent.clear()
            self.secret = secrets.token_bytes(32)  # no token of before is good any more, so none can be sent twice
        self.sent[address] = count


class Sessions:
    """The sessions of a node's console."""

    def __init__(self, settings: ConsoleSettings, clients: Clients, now: Callable[[], int]) -> None:
        self._idle = settings.session_minutes * 60
        self._longest = settings.session_hours * 3600
        self._clients = clients
        self._now = now
        self._open: OrderedDict[str, Session] = OrderedDict()

    def begin(self, client: Client) -> str:
        """Begin a session of a client and return what its cookie says."""
        name, now = secrets.token_urlsafe(32), monotonic()
        self._open[_key(name)] = Session(client, now, now)
        while len(self._open) > MOST:
            self._open.popitem(last=False)
        return name

    def find(self, name: str, *, touch: bool) -> Session | None:
        """Return the session of a cookie, if it goes on; with ``touch`` it was used now."""
        key = _key(name)
        found = self._open.get(key)
        if found is None:
            return None
        if not self.goes_on(found):
            del self._open[key]
            return None
        if touch:
            found.seen = monotonic()
            self._open.move_to_end(key)
        return found

    def goes_on(self, session: Session) -> bool:
        """Whether a session has not ended."""
        now, client = monotonic(), self._clients.named(session.client.name)
        if now - session.seen > self._idle or now - session.began > self._longest:
            return False
        if client is None or not client.valid(self._now()) or client.mark != session.client.mark:
            return False
        return any(one is session for one in self._open.values())

    def end(self, name: str) -> None:
        """End the session of a cookie."""
        self._open.pop(_key(name), None)


def _key(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()
