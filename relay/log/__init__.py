"""The node's log: structlog events of a closed vocabulary, pretty on a terminal, one JSON object a line otherwise.

An event is a member of :class:`Event`; its fields name centres, ids, counts, codes and times, never content, keys or tokens.
Each step of a message is one line of its own (:mod:`relay.log.lines`), found at every centre under the message's id.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TextIO, cast, get_args

import structlog
from pydantic_core import to_json
from structlog.types import EventDict, Processor

from relay.clock import now_ms
from relay.log.events import FIELDS, Event, Level
from relay.log.lines import Lines, age
from relay.log.output import Output, Rotating, Standard, standard

__all__ = ["FIELDS", "Event", "Level", "Log", "Output", "Rotating", "Standard", "configure", "standard"]


class Log:
    """A structlog logger that takes only the closed vocabulary."""

    def __init__(self, centre: str) -> None:
        self._centre = centre
        self._log: structlog.typing.FilteringBoundLogger = structlog.get_logger(centre=centre)

    def debug(self, event: Event, **fields: object) -> None:
        """Write an event that only somebody who looks for it needs."""
        self._log.debug(event, **fields)

    def info(self, event: Event, **fields: object) -> None:
        """Write an event of normal operation."""
        self._log.info(event, **fields)

    def warning(self, event: Event, **fields: object) -> None:
        """Write an event that the node deals with by itself, and that an operator may want to know."""
        self._log.warning(event, **fields)

    def error(self, event: Event, **fields: object) -> None:
        """Write an event that needs somebody."""
        self._log.error(event, **fields)

    def messages(self, event: Event, own: Iterable[Mapping[str, object]], **shared: object) -> None:
        """Write a step of each of some messages: ``own`` are each one's fields, its id as ``message`` among them."""
        if _LEVELS[event.level] < _now.least:
            return
        if _now.lines is not None:
            _now.lines.write(event, own, {"centre": self._centre, **shared}, now_ms())
            return
        for one in own:
            getattr(self._log, event.level)(event, **{**shared, **one, "age_ms": age(one, now_ms())})


@dataclass(slots=True)
class _Now:
    """How lines of messages are written in this process: from this level on, and as JSON lines or one by one."""

    least: int = logging.WARNING
    lines: Lines | None = None


_LEVELS = {level: logging.getLevelNamesMapping()[level.upper()] for level in get_args(Level)}
_now = _Now()


def configure(style: str, level: str, output: Output | None = None, *, messages: bool = True) -> None:
    """Set up the process's log, which goes to standard error when no ``output`` is given.

    ``style`` is ``auto``, ``json`` or ``pretty``; ``level`` is the least that is written. Without ``messages`` the ordinary
    steps of messages are left out; what goes wrong with one is said all the same.
    """
    output = output or standard("stderr")
    pretty = style == "pretty" or (style == "auto" and output.isatty())
    threshold = logging.getLevelNamesMapping()[level.upper()]
    final: Processor = structlog.dev.ConsoleRenderer() if pretty else structlog.processors.JSONRenderer(_json)
    structlog.configure(
        processors=[structlog.processors.add_log_level, structlog.processors.TimeStamper(fmt="iso"), _plain, final],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.WriteLoggerFactory(cast("TextIO", output)),
        cache_logger_on_first_use=True,
    )
    _now.least = threshold if messages else max(threshold, logging.WARNING)
    _now.lines = None if pretty else Lines(output)
    # Libraries speak through the standard library; what they have to say below a warning is not ours to repeat.
    logging.getLogger("aiormq").setLevel(logging.CRITICAL)  # it repeats as errors what the broker's supervisor says better
    handler = logging.StreamHandler(cast("TextIO", output))
    logging.basicConfig(level=logging.ERROR, handlers=[handler], format="%(levelname)s %(name)s: %(message)s")


def _plain(_logger: object, _method: str, event: EventDict) -> EventDict:
    event["event"] = str(event["event"])
    return event


def _json(event: EventDict, **_options: object) -> str:
    """Return an event as one line, as :mod:`relay.log.lines` writes them."""
    try:
        return to_json(event, fallback=str).decode()
    except (ValueError, TypeError):  # half a character, in the name of a file for example
        return json.dumps(event, default=str)
