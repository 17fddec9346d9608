"""Run and configure RabbitMQ: the operator's side, which no node ever imports.

``private`` starts Debian's RabbitMQ for development and tests, on loopback, in a folder of its own (``configuration`` is
its settings file); ``management``
reads a broker's state through its management API and brings it to the one that a topology asks for. Neither knows the
directory: what should exist comes in as data from :mod:`relay.topology`.
"""

from relay.rabbit.management import Management
from relay.rabbit.private import PrivateBroker

__all__ = ["Management", "PrivateBroker"]
