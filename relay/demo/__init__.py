"""The demonstration: a whole network on this machine doing its main job for real, with one centre killed in the middle.

A private RabbitMQ, one process per node, and one client per centre that stands for the centre's own system: it submits, takes and
acknowledges over the node's HTTP API and writes a journal of what it did. After the bulk :mod:`relay.demo.story` tells one case
in every kind of message. At the end :mod:`relay.demo.reconcile` reads only these journals and the directory, and says what was
lost, duplicated or given to someone not entitled.

:mod:`relay.demo.wan` puts two centres behind wide-area links, and :mod:`relay.demo.delays` says how long messages took on each.
"""

from relay.demo.run import Options, run

__all__ = ["Options", "run"]
