"""The console as a surface of the node: uvicorn in its event loop, at ``console.listen``, over TLS unless it is loopback.

Stopping is graceful (:mod:`relay.web.surface`) and does not wait for open pages: their streams end at once.

Errors raised: ``Misconfigured`` (``console-not-encrypted``, ``address-in-use`` and those of :mod:`relay.tls`).
"""

from __future__ import annotations

import asyncio
from functools import partial

from relay.console import rendering
from relay.console.app import make_app
from relay.console.front import make_front
from relay.tls import refuse_clear_console
from relay.web.listener import config, encryption, listening
from relay.web.served import Served
from relay.web.surface import Surface


class Console(Surface):
    """The web pages of a node. A node without an address for them has none."""

    async def _serve(self, node: Served) -> None:
        settings, address = node.centre.settings, node.centre.settings.console.listen
        if address is None:
            return
        here_ = self._share(node)
        certificate = partial(settings.console.context, settings.api.tls)
        encrypted = encryption(address, certificate, refuse_clear_console, node.centre.log)
        front = make_front(here_, encrypted=encrypted is not None)
        try:
            with listening(address) as listener:
                await asyncio.to_thread(rendering.prepare)
                await self._answer(listener, config(make_app(front), settings.api, encrypted))
        finally:
            await front.close()
