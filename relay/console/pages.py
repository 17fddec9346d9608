"""The pages of the console, in the order of the menu."""

from __future__ import annotations

from typing import Any

from starlette.routing import Route

from relay.console import audit, directory, member, message, messages, network, queues, requests, stuck, trouble
from relay.console.page import Page

MODULES: tuple[Any, ...] = (network, queues, messages, message, trouble, stuck, requests, directory, member, audit)
"""Each has ``PAGE``, and ``ROUTES`` for its acts."""


def pages() -> tuple[Page, ...]:
    """Return every page."""
    return tuple(module.PAGE for module in MODULES)


def menu() -> tuple[Page, ...]:
    """Return the pages that the menu names."""
    return tuple(page for page in pages() if page.menu)


def routes() -> list[Route]:
    """Return the routes of every page: acts first, since an address of theirs may look like a page's."""
    return [*(route for module in MODULES for route in module.ROUTES), *(route for page in pages() for route in page.routes())]
