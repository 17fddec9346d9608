"""Rates: how many messages went to and came from each peer, in each ten seconds of the last hour.

Fed by what is counted anyway (:mod:`relay.metrics`), so the path of a message costs nothing more. The memory is bounded: 720
small numbers for each active member.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping

from relay.observation import SPANS, Traffic


class Rates:
    """Keeps the spans of each peer; :meth:`note` ends one."""

    def __init__(self) -> None:
        self._totals: tuple[Mapping[str, int], Mapping[str, int]] = ({}, {})
        self._spans: dict[str, tuple[deque[int], deque[int]]] = {}

    def note(self, peers: Iterable[str], sent: Mapping[str, int], received: Mapping[str, int]) -> None:
        """End a span, given how many messages were counted so far, to and of each peer; any other peer is forgotten."""
        totals = (sent, received)
        kept = {peer: self._spans.get(peer) or (_nothing(), _nothing()) for peer in peers}
        for peer, spans in kept.items():
            for before, now, span in zip(self._totals, totals, spans, strict=True):
                span.append(now.get(peer, 0) - before.get(peer, 0))
        self._spans, self._totals = kept, totals

    def of(self, peer: str) -> Traffic:
        """Return the spans of a peer, the newest last."""
        spans = self._spans.get(peer)
        return Traffic() if spans is None else Traffic(tuple(spans[0]), tuple(spans[1]))


def _nothing() -> deque[int]:
    return deque([0] * SPANS, maxlen=SPANS)
