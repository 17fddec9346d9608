"""The layer before every route of a surface: it looks at a request first, sees to the headers of every answer, and answers last.

How a surface looks at who asks, which headers its answers need, and in what form it says what went wrong is its own. What is the
same stands here: nothing reaches a route before the look, and whatever goes wrong, the caller gets an answer without its content,
unless one has begun already.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

Headers = list[tuple[bytes, bytes]]
"""The headers of an answer, as ASGI has them."""

Look = Callable[[Request], Response | None]
"""Notes in the request's state who asks; returns the answer to who is sent elsewhere, None to let him through, or raises."""

Answer = Callable[[Request, Exception], Awaitable[Response]]
"""Returns the answer to a request that failed."""


class Guard:
    """The ASGI layer before the routes; no error leaves it."""

    def __init__(self, app: ASGIApp, look: Look, headers: Callable[[Headers], Headers], answer: Answer) -> None:
        self._app = app
        self._look = look
        self._headers = headers
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or let the request through to its route."""
        request = Request(scope, receive)
        begun = False

        async def sending(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                message["headers"] = self._headers(message["headers"])
            await send(message)

        try:
            response = self._look(request)
            await (response or self._app)(scope, receive, sending)
        except Exception as error:  # the last resort: whatever went wrong, the caller gets an answer without its content
            answered = await self._answer(request, error)
            if not begun:
                await answered(scope, receive, sending)
