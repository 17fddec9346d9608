"""What the broker's errors mean to people: a ``BrokerTrouble`` each, with code and sentence; and how often to log it."""

from __future__ import annotations

import re
from collections.abc import Mapping

from aio_pika.exceptions import (
    AMQPError,
    AuthenticationError,
    ChannelClosed,
    ChannelNotFoundEntity,
    InvalidFrameError,
    ProbableAuthenticationError,
)
from yarl import URL

from relay.broker import handshake
from relay.errors import BrokerTrouble, Misconfigured, RelayError

REPEAT_FIRST_SECONDS = 60.0
REPEAT_LONGEST_SECONDS = 3600.0

_REFUSED = (AuthenticationError, ProbableAuthenticationError, RelayError)  # ours: the password can't be read
_OURS = frozenset({"bad-certificate", "certificate-expired", "wrong-certificate", "broker-not-encrypted"})
_REFUSALS = ("ACCESS_REFUSED", "NOT_ALLOWED")
_NO_VHOST = "there is no such virtual host, or the account may not use it"
_MEND = "Its operator sees it with `relay broker plan` and mends it with `relay broker apply`; the node goes on by itself then."


def of(error: BaseException, url: str) -> BrokerTrouble:
    """Return what an error of a connection or channel means."""
    if isinstance(error, BrokerTrouble):
        return error
    where, words = URL(url).with_user(None), _words(error)
    if (found := handshake.trouble(error, where)) is not None:
        return found
    if isinstance(error, Misconfigured) and error.code in _OURS:
        return BrokerTrouble(error.code, error.detail)
    if isinstance(error, ChannelNotFoundEntity):
        return BrokerTrouble("topology-missing", f"The broker lacks something: {words}. {_MEND}")
    if _is_refusal(error, words):
        return BrokerTrouble("broker-refused", f"The broker at {where} does not let this centre in: {words}.")
    did = "closed a channel" if isinstance(error, ChannelClosed) else "can't be reached"
    return BrokerTrouble("broker-unreachable", f"The broker at {where} {did}: {words}.")


def of_loss(error: BaseException | None, url: str) -> BrokerTrouble:
    """Return what it means that a connection or channel was closed with this error."""
    if isinstance(error, ChannelClosed) and error.args and error.args[-1]:
        return of(error, url)
    if isinstance(error, AMQPError | OSError) and not isinstance(error, ChannelClosed):
        return BrokerTrouble("broker-unreachable", f"The connection to the broker was lost: {_words(error)}.")
    return lost()


def of_publish(error: BaseException, url: str) -> BrokerTrouble:
    """Return what an error means that a publication ended with: it was not confirmed, unless the broker said why."""
    if isinstance(error, ChannelNotFoundEntity):
        return of(error, url)
    if isinstance(error, ChannelClosed) and error.args and error.args[-1]:
        return BrokerTrouble("broker-refused", f"The broker refuses what this centre publishes: {_words(error)}.")
    return BrokerTrouble("not-confirmed", f"The broker did not confirm an envelope: {_words(error)}.")


def unconfirmed(seconds: float) -> BrokerTrouble:
    """Return the trouble of a broker that does not confirm in time."""
    return BrokerTrouble("not-confirmed", f"The broker did not confirm an envelope within {seconds:g} s.")


def lost() -> BrokerTrouble:
    """Return the trouble of a connection that ended without a reason."""
    return BrokerTrouble("broker-unreachable", "The connection to the broker was lost.")


def silent(seconds: float) -> BrokerTrouble:
    """Return the trouble of a connection that looks alive and is not."""
    sentence = f"The connection to the broker looked alive, but nothing came through it for {seconds:g} s; it is made anew."
    return BrokerTrouble("broker-unreachable", sentence)


def blocked() -> BrokerTrouble:
    """Return the trouble of an alarm of the broker."""
    sentence = (
        "The broker takes nothing for now: it is short of memory or disk. What arrives is still taken in; what is to be sent"
        " waits, and goes out by itself when the broker's alarm ends."
    )
    return BrokerTrouble("broker-blocked", sentence)


def unbound(key: str) -> BrokerTrouble:
    """Return the trouble of a ping that no queue takes."""
    return BrokerTrouble("topology-missing", f"The broker has no binding for {key}. {_MEND}")


def cancelled(queue: str) -> BrokerTrouble:
    """Return the trouble of a consumer that the broker ended."""
    return BrokerTrouble("topology-missing", f"The broker ended the consumption of {queue}: it was deleted. {_MEND}")


def together(missing: Mapping[str, BrokerTrouble]) -> BrokerTrouble:
    """Return one trouble for all queues and exchanges that can't be used; a refusal goes before what is missing."""
    for trouble in missing.values():
        if trouble.code != "topology-missing":
            return trouble
    return BrokerTrouble("topology-missing", f"The broker lacks {', '.join(missing)}. {_MEND}")


def _is_refusal(error: BaseException, words: str) -> bool:
    """Return whether another try can't help before somebody has changed something."""
    return isinstance(error, _REFUSED) or words == _NO_VHOST or any(refusal in words for refusal in _REFUSALS)


def _words(error: BaseException) -> str:
    """Return what an error says, the same each time that the same thing happens."""
    said = error.args[-1] if isinstance(error, AMQPError) and error.args else error
    if isinstance(error, InvalidFrameError) and "Connection.Close" in str(said):  # the library keeps the broker's words to itself
        return _NO_VHOST
    return re.sub(r" at 0x[0-9a-f]+", "", str(said) or type(error).__name__).rstrip(".")


class Repeats:
    """Says when a trouble is worth a line of the log: when it is another one, then with growing pauses."""

    def __init__(self) -> None:
        self._said: tuple[str, str] | None = None
        self._pause = 0.0
        self._next = 0.0

    def due(self, trouble: BrokerTrouble, now: float) -> bool:
        """Return whether to log it; ``now`` in seconds of a monotonic clock."""
        same = self._said == (trouble.code, trouble.detail)
        if same and now < self._next:
            return False
        self._said = trouble.code, trouble.detail
        self._pause = min(self._pause * 2, REPEAT_LONGEST_SECONDS) if same else REPEAT_FIRST_SECONDS
        self._next = now + self._pause
        return True

    def over(self) -> None:
        """Note that the trouble ended: the next one is another."""
        self._said = None
