"""The API as a surface of the node, at ``api.listen``; and at ``health.listen``, whether the node is ready.

Nothing on the API's listener is answered without a token, and nothing on the other one is more than a word. With a certificate
the API is HTTPS, with an authority for clients it asks them for theirs; renewed files are read at the next connection.

Stopping is graceful (:mod:`relay.web.surface`): waiting polls are answered at once with what there is, and whatever requests
under way were promised is committed.

Errors raised: ``Misconfigured`` (``api-not-encrypted``, ``address-in-use`` and those of :mod:`relay.tls`).
"""

from __future__ import annotations

import asyncio

from relay.api.app import make_app
from relay.tls import refuse_clear_api
from relay.web import roster
from relay.web.listener import Server, config, encryption, listening, serve
from relay.web.probes import make_probes
from relay.web.served import Served
from relay.web.surface import Surface


class Api(Surface):
    """The HTTP interface of a node."""

    async def _serve(self, node: Served) -> None:
        centre, app = node.centre, make_app()
        settings = centre.settings
        here_ = app.state.here = self._share(node)
        with listening(settings.api.listen) as front, listening(settings.health.listen) as aside:
            encrypted = encryption(settings.api.listen, settings.api.tls.context, refuse_clear_api, centre.log)
            probes = Server(config(make_probes(here_.readiness.problems), settings.api))
            async with asyncio.TaskGroup() as group:
                beside = [group.create_task(here_.refusals.run(centre)), group.create_task(roster.watch(here_))]
                answering = group.create_task(serve(probes, aside))
                await self._answer(front, config(app, settings.api, encrypted))
                probes.should_exit = True
                await answering
                for task in beside:
                    task.cancel()
            await here_.refusals.write(centre)
