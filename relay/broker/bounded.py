"""Waiting for a broker that may never answer: every wait ends, and nothing that the library keeps back holds it up.

A cancelled call of the library may go on waiting while it cleans up (it sends a farewell to a broker that reads nothing), so a
step that takes too long is cancelled and left behind; cutting its socket ends it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Iterator
from typing import Any, TypeVar

from aio_pika.exceptions import AMQPError

T = TypeVar("T")

FAILURES = (AMQPError, OSError, TimeoutError, RuntimeError)
"""What the library raises when the broker fails, once :func:`named` has named the rest."""

SHOWN = 100

_left: set[asyncio.Future[Any]] = set()


def asked_to_end() -> bool:
    """Return whether this task was cancelled; a frozen broker's closing connection raises the same error unasked."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def spawn(step: Awaitable[T]) -> asyncio.Future[T]:
    """Start a step of which nobody need take the outcome."""
    task: asyncio.Future[T] = asyncio.ensure_future(step)
    _left.add(task)
    task.add_done_callback(_forget)
    return task


async def within(step: Awaitable[T], seconds: float) -> T:
    """Return what a step returns; raise ``TimeoutError`` when it takes longer, whatever it does about that."""
    task = spawn(step)
    try:
        await asyncio.wait({task}, timeout=seconds)
    finally:
        if not task.done():
            task.cancel()
    if not task.done():
        raise TimeoutError(f"no answer within {seconds:g} s")
    with named():
        return task.result()


@contextlib.contextmanager
def named() -> Iterator[None]:
    """Name what the library raises besides :data:`FAILURES`, around calls of it alone.

    With a bare ``Exception`` it ends what waits on a channel that was closed for no reason of its own. Others escape it, such as
    a ``KeyError``, when the broker's words are not what it takes for granted: no broker's word may end the node.
    """
    try:
        yield
    except FAILURES:
        raise
    except Exception as error:
        if type(error) is Exception:
            raise ConnectionError("the connection closed before that was done") from error
        said = f"the broker did not speak as one does ({type(error).__name__}: {str(error)[:SHOWN]})"
        raise ConnectionError(said) from error


@contextlib.contextmanager
def best_effort() -> Iterator[None]:
    """Let a failure of the broker pass, and a cancellation that nobody asked for."""
    try:
        with named():
            yield
    except FAILURES:
        pass
    except asyncio.CancelledError:
        if asked_to_end():
            raise


def _forget(task: asyncio.Future[Any]) -> None:
    _left.discard(task)
    if not task.cancelled():
        task.exception()  # or it would be reported as never retrieved
