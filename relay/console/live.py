"""Open pages, kept up to date by server-sent events (WHATWG HTML, 9.2).

A *feed* is one page as one session sees it; it is rendered anew at most every ``console.live_seconds``, once for all streams that
show the same, and sent when it changed. A stream says ``shown`` with the page's region and the banner as JSON, ``beat`` every
second with the time, so that a browser notices when nobody is there any more, and ``over`` when the session ended. The number of
streams is bounded. When the node stops they end at once.

Errors raised: ``TooMany`` (``too-many-streams``).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable
from dataclasses import dataclass, field

from relay.clock import iso, now_ms
from relay.errors import TooMany

MOST_STREAMS = 128
BEAT_SECONDS = 1.0
AGAIN_SECONDS = 10.0

MEDIA_TYPE = "text/event-stream"

Shown = dict[str, str]
"""The parts of a page that are sent: its region and the banner, as HTML."""
Render = Callable[[], Awaitable[Shown]]


@dataclass(slots=True, eq=False)
class Feed:
    """What some streams show."""

    render: Render
    shown: Shown | None = None
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    streams: int = 0
    task: asyncio.Task[None] | None = None

    async def run(self, pause: float) -> None:
        """Render until cancelled; whoever waits is woken by a change."""
        while True:
            found = await self.render()
            if found != self.shown:
                self.shown = found
                self.changed.set()
                self.changed = asyncio.Event()
            await asyncio.sleep(pause)


class Lives:
    """The streams of a console."""

    def __init__(self, pause: float) -> None:
        self._pause = pause
        self._feeds: dict[Hashable, Feed] = {}
        self._streams = 0

    def stream(self, key: Hashable, render: Render, goes_on: Callable[[], bool], stopping: asyncio.Event) -> AsyncIterator[bytes]:
        """Return what a browser is sent of the feed with this key; raise ``TooMany`` when there are too many streams."""
        if self._streams >= MOST_STREAMS:
            raise TooMany("too-many-streams", f"{MOST_STREAMS} open pages are kept up to date already.", AGAIN_SECONDS)
        return self._stream(key, render, goes_on, stopping)

    async def _stream(
        self, key: Hashable, render: Render, goes_on: Callable[[], bool], stopping: asyncio.Event
    ) -> AsyncIterator[bytes]:
        feed = self._join(key, render)
        ends = asyncio.create_task(stopping.wait())
        sent: Shown | None = None
        try:
            yield _event("beat", {"at": iso(now_ms())})
            while not stopping.is_set():
                if not goes_on():
                    yield OVER
                    return
                changed = feed.changed
                if feed.shown is not None and feed.shown != sent:
                    sent = feed.shown
                    yield _event("shown", sent)
                await _either(changed, ends)
                yield _event("beat", {"at": iso(now_ms())})
        finally:
            ends.cancel()
            self._leave(key, feed)

    def _join(self, key: Hashable, render: Render) -> Feed:
        feed = self._feeds.get(key)
        if feed is None or feed.task is None or feed.task.done():
            feed = self._feeds[key] = Feed(render)
            feed.task = asyncio.create_task(feed.run(self._pause), name="console feed")
        feed.streams += 1
        self._streams += 1
        return feed

    def _leave(self, key: Hashable, feed: Feed) -> None:
        feed.streams -= 1
        self._streams -= 1
        if not feed.streams and feed.task is not None:
            feed.task.cancel()
            if self._feeds.get(key) is feed:
                del self._feeds[key]


async def _either(changed: asyncio.Event, ends: asyncio.Task[bool]) -> None:
    """Wait until a feed changed, the node stops, or it is time to say that somebody is still there."""
    changes = asyncio.create_task(changed.wait())
    try:
        await asyncio.wait({changes, ends}, timeout=BEAT_SECONDS, return_when=asyncio.FIRST_COMPLETED)
    finally:
        changes.cancel()


def _event(name: str, data: object) -> bytes:
    return f"event: {name}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n".encode()


OVER = _event("over", {})
"""What who is not signed in is sent of any page."""
