"""The node's way to RabbitMQ: one connection that publishes, one that consumes, and a supervisor that rebuilds both.

This is the only package that imports aio-pika. It promises: :meth:`Broker.publish` returns only after the broker's confirm and
raises ``BrokerTrouble`` otherwise, whatever happened; a delivery is handed to one callback in the order of its queue and
acknowledged only by :meth:`Broker.ack`; nothing is ever declared (the topology is the operator's, see :mod:`relay.topology`);
every wait ends; attempts are spaced by capped exponential back-off with full jitter; nothing needs a restart.

:mod:`~relay.broker.supervisor` keeps a :mod:`~relay.broker.link` (one life of the connections) and makes the next when it is
lost. A ping that the node sends to itself (:mod:`~relay.broker.pulse`) finds a connection that looks alive and is not. A queue
or an exchange that is missing is named with how to mend it (:mod:`~relay.broker.troubles`); the other lanes go on, and what was
missing is taken up when it is back. While an alarm keeps the broker from taking anything, the node stays connected, consumes, and
says so.

Codes raised: ``broker-unreachable``, ``broker-refused``, ``broker-blocked``, ``topology-missing``, ``not-confirmed``,
``unroutable``.
"""

from relay.broker.plan import BrokerPlan, Delivery, Incarnation
from relay.broker.supervisor import Broker

__all__ = ["Broker", "BrokerPlan", "Delivery", "Incarnation"]
