"""Gauges: once a second, what the parts of a node say of themselves becomes metrics.

What is read here is there already: nothing asks the disk, the store or the broker for it.
"""

from __future__ import annotations

import platform
from collections.abc import Sequence

import relay
from relay import codes, topology
from relay.broker import Broker
from relay.centre import Centre
from relay.errors import RelayError
from relay.heartbeats import Heartbeats
from relay.lag import Lag
from relay.metrics import STORE_TROUBLES

NETWORK_DIGITS = 12


class Gauges:
    """Sets the gauges that no part sets by itself."""

    def __init__(self, centre: Centre, broker: Broker, heartbeats: Heartbeats, lag: Lag) -> None:
        self._centre = centre
        self._broker = broker
        self._heartbeats = heartbeats
        self._connects = 0
        metrics, settings = centre.metrics, centre.settings
        metrics.build.labels(relay.__version__, platform.python_version()).set(1)
        network, schema, lanes = settings.network[:NETWORK_DIGITS], codes.SCHEMA_VERSIONS[-1], ",".join(topology.LANES)
        metrics.config.labels(centre.id, network, schema, lanes).set(1)
        metrics.disk_floor.set(settings.store.disk_floor_bytes)
        metrics.loop_lag.set_function(lambda: lag.worst)

    def look(self, disk_free: int, troubles: Sequence[RelayError]) -> None:
        """Set what changes; ``troubles`` is what is known to be wrong with the node."""
        metrics = self._centre.metrics
        metrics.disk_free.set(disk_free)
        metrics.epoch.set(self._centre.store.epoch)
        metrics.ready.set(not troubles)
        known = {trouble.code for trouble in troubles}
        for code in STORE_TROUBLES:
            metrics.store_trouble.labels(code).set(code in known)
        for peer in self._centre.directory.active:
            if peer != self._centre.id:
                metrics.peer_silent.labels(peer).set(self._heartbeats.state(peer) == "silent")
        self._look_at_broker()

    def _look_at_broker(self) -> None:
        metrics, known = self._centre.metrics, self._broker.incarnation
        metrics.connected.set(self._broker.connected.is_set())
        if known is None or known.number == self._connects:
            return
        metrics.connects.inc(known.number - self._connects)
        metrics.incarnation.set(known.at / 1000)
        metrics.broker.clear()
        metrics.broker.labels(known.product, known.version).set(1)
        self._connects = known.number
