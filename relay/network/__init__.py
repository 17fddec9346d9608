"""Write a complete network to a folder, and read it back for the broker commands.

A network is a root (its authorities), a directory that every authority has signed, and per centre a folder that can be
moved to the centre's own machine as it is: settings, copies of root and directory, keys, broker password or certificate, API
tokens.

``new`` writes one; ``files`` has the texts that it writes and the members it writes when none are named
(``members.toml``: centres are data), ``certificates`` writes those of an encrypted broker; ``loaded`` reads one back and
trusts nothing it reads.

Errors raised: ``Refused`` with the codes ``folder-not-empty``, ``bad-centre-id`` and ``bad-amqp-url``; ``Misconfigured`` with
``not-a-network``, ``broker-not-encrypted``, ``management-not-encrypted`` and those of :mod:`relay.directory`.
"""

from relay.network.certificates import renew, serve
from relay.network.files import default_centres
from relay.network.loaded import Broker, Network, load_network
from relay.network.new import write_network

__all__ = ["Broker", "Network", "default_centres", "load_network", "renew", "serve", "write_network"]
