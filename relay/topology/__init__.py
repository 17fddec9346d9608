"""The broker's topology as data: what must exist in RabbitMQ, and how messages are addressed in it. Pure: no I/O.

``names`` exchanges, queues, lanes and routing keys; ``objects`` the records that make up a state of the broker;
``desired`` the state that a directory asks for, and whom its bindings reach; ``export`` that state as the definitions
file RabbitMQ loads at boot, and back; ``changes`` the difference between two states as lines that print.

It owns what is named ``relay.*`` and the accounts that are tagged ``relay-centre`` or named after a member of the
directory; nothing else on the broker is ever part of a difference.

Errors raised: ``Misconfigured`` with the code ``no-broker-password``.
"""

from relay.topology.changes import Change, difference, is_ours, strangers
from relay.topology.desired import DELIVERY_LIMIT, MAX_LENGTH_BYTES, bound, topology
from relay.topology.export import NO_PASSWORD, account, definitions, from_definitions, password_hash, password_matches
from relay.topology.names import (
    CONTROL,
    DIRECT_EXCHANGE,
    EXERCISE,
    INTEL_EXCHANGE,
    LANES,
    POISON,
    POISON_EXCHANGE,
    control_key,
    direct_key,
    exchange,
    intel_keys,
    lane,
    lane_key,
    queue,
    queues,
    urgency,
)
from relay.topology.objects import (
    ACCOUNT_TAG,
    Arguments,
    Binding,
    Exchange,
    Item,
    Permission,
    Queue,
    TopicPermission,
    Topology,
    User,
    arguments,
    of_items,
)

__all__ = [
    "ACCOUNT_TAG",
    "CONTROL",
    "DELIVERY_LIMIT",
    "DIRECT_EXCHANGE",
    "EXERCISE",
    "INTEL_EXCHANGE",
    "LANES",
    "MAX_LENGTH_BYTES",
    "NO_PASSWORD",
    "POISON",
    "POISON_EXCHANGE",
    "Arguments",
    "Binding",
    "Change",
    "Exchange",
    "Item",
    "Permission",
    "Queue",
    "TopicPermission",
    "Topology",
    "User",
    "account",
    "arguments",
    "bound",
    "control_key",
    "definitions",
    "difference",
    "direct_key",
    "exchange",
    "from_definitions",
    "intel_keys",
    "is_ours",
    "lane",
    "lane_key",
    "of_items",
    "password_hash",
    "password_matches",
    "queue",
    "queues",
    "strangers",
    "topology",
    "urgency",
]
