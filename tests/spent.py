"""What a call costs in CPU, for tests that say that something is cheap: what else the process has to do counts for nothing."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def spent(call: Callable[[], T]) -> tuple[T, float]:
    """Return what a call returns, and the CPU seconds of this thread that it took.

    No garbage is looked for meanwhile: that goes through all that the tests before left, whatever the call does.
    """
    gc.disable()
    try:
        begun = time.thread_time()
        done = call()
        return done, time.thread_time() - begun
    finally:
        gc.enable()
