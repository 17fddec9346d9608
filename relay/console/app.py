"""The console's application: its pages behind the guard."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.exceptions import HTTPException

from relay.console import files, guard, pages, sign_in
from relay.console.front import Front
from relay.errors import RelayError
from relay.web.guard import Guard


def make_app(front: Front) -> Starlette:
    """Return the application."""
    app = Starlette(
        routes=[*files.ROUTES, *sign_in.ROUTES, *pages.routes()],
        exception_handlers={RelayError: guard.answer, HTTPException: guard.answer},
    )
    app.router.redirect_slashes = False
    app.add_middleware(Guard, look=guard.look, headers=guard.guarded, answer=guard.answer)
    app.state.here, app.state.front, app.state.menu = front.here, front, pages.menu()
    return app
