"""What the node tells its broker module, and what it gets from it: the plan and the delivery."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass

from aio_pika.abc import AbstractChannel, AbstractIncomingMessage


@dataclass(frozen=True, slots=True)
class BrokerPlan:
    """What a node uses of its broker: the exchange it writes, and per lane the queue it reads and how much it takes ahead.

    ``password`` and ``tls`` are asked at each attempt, so that what was rotated needs no restart; both may raise
    ``Misconfigured``. ``tls`` gives the context of an ``amqps`` address, None for another. With ``external`` the account is
    whom the certificate names (SASL EXTERNAL, RFC 4422 appendix A), and no password is sent. ``ping_key`` is the routing key
    that leads from ``exchange`` back to the queue of this node's own control lane.
    """

    url: str
    password: Callable[[], str]
    exchange: str
    queues: tuple[tuple[str, str], ...]
    prefetch: int
    confirm_seconds: float
    reconnect_seconds: float
    heartbeat_seconds: int
    ping_key: str
    ping_seconds: float
    ping_limit_seconds: float
    tls: Callable[[], ssl.SSLContext | None] = lambda: None
    external: bool = False


@dataclass(frozen=True, slots=True)
class Incarnation:
    """A life of the connections: how many there were with it, since when (milliseconds), and what the broker calls itself."""

    number: int
    at: int
    product: str
    version: str


@dataclass(frozen=True, slots=True)
class Delivery:
    """An envelope as the broker handed it over; nothing of it is trusted."""

    lane: str
    raw: bytes
    routing_key: str
    redelivered: bool
    message: AbstractIncomingMessage
    channel: AbstractChannel  # the message's own can't be asked for once it is closed

    @property
    def gone(self) -> bool:
        """Whether its channel is closed, so that it can't be acknowledged any more: the broker delivers it again."""
        return self.channel.is_closed
