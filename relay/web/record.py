"""Writes of the API's own matters to the store: who was turned away, which clients changed, what waits for a second person."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from relay import points
from relay.centre import Centre
from relay.points import Point
from relay.store import Connection

T = TypeVar("T")


async def commit(centre: Centre, job: Callable[[Connection], T]) -> T:
    """Run a job in the next transaction and return its result once it is on disk."""
    points.reach(Point.ACCESS_COMMIT_BEFORE)
    done = await centre.store.write(job)
    points.reach(Point.ACCESS_COMMIT_AFTER)
    return done
