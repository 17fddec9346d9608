"""What a panel of a dashboard is made of: queries, words for what a number means, columns of a table.

A colour is never alone: a number whose colour means something has a second value beside it that says the word, and a table or a
line of states maps its numbers to words. Times are seconds, sizes bytes, as the metrics have them; Grafana writes them out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

RUNBOOKS = "/public/runbooks"
"""Where Grafana serves docs/runbooks, which deploy/compose.yaml puts there; another address goes into the variable `runbooks`."""

UNRECEIPTED = ("RelayFlashUnreceipted", "RelayImmediateUnreceipted", "RelayPriorityUnreceipted", "RelayRoutineUnreceipted")
"""Runbooks about messages that wait for a receipt."""

DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
SECONDS, BYTES, RATE, COUNT, SINCE, MOMENT = "s", "bytes", "cps", "none", "s", "dateTimeFromNow"


@dataclass(frozen=True, slots=True)
class Step:
    """From this number on (None: from the lowest) a value has this colour and is called this."""

    at: float | None
    colour: str
    word: str


Words = tuple[Step, ...]
NONE_OR_SOME: Words = (Step(None, "green", "none"), Step(1, "red", "look"))
NONE_OR_NOTE: Words = (Step(None, "green", "none"), Step(1, "orange", "look"))
GOOD_IF_ONE: Words = (Step(None, "red", "no"), Step(1, "green", "yes"))
BAD_IF_ONE: Words = (Step(None, "green", "no"), Step(1, "red", "yes"))
HEARD: Words = (Step(None, "green", "heard"), Step(1, "red", "SILENT"))
LATE: Words = (Step(None, "green", "in time"), Step(1, "red", "LATE"))
WAITED: Words = (Step(None, "green", "in time"), Step(0.5, "orange", "half of its time"), Step(1, "red", "LATE"))
"""Of the share of its time that the oldest message has waited."""

DELIVERED_WITHIN = {"flash": 240, "immediate": 1200, "priority": 7200, "routine|exercise": 57_600}
"""Seconds in which messages of a precedence are to be delivered, as the alert rules and the settings `alarms` have it."""


@dataclass(frozen=True, slots=True)
class Query:
    """An expression, and how its series are called (``{{label}}``)."""

    expression: str
    legend: str = ""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table: its expression, its heading, its unit, and the words that stand for its numbers."""

    expression: str
    heading: str
    unit: str = COUNT
    words: Words = ()


def rate(metric: str, of: str, by: str = "") -> str:
    """Return what a counter counts in a second: in all, or for each value of the labels ``by``."""
    return f"sum{by and f' by ({by}) '}(rate({metric}{{{of}}}[$__rate_interval]))"


def quantile(share: str, metric: str, of: str, name: str = "") -> Query:
    """Return below which value a share of what a histogram counted was, such as ``0.95``; called ``name, p95``."""
    legend = f"p{share[2:].ljust(2, '0')}"
    return Query(f"histogram_quantile({share}, {rate(f'{metric}_bucket', of, 'le')})", f"{name}, {legend}" if name else legend)


def end_to_end(share: str, promise: str, of: str, name: str = "") -> Query:
    """Return within how many seconds from its submission a share of the messages had a promise kept."""
    return quantile(share, "relay_end_to_end_seconds", f'{of}, promise="{promise}"', name or promise)


def waited(of: str) -> str:
    """Return the share of its time that the oldest message without a terminal receipt has waited; 1: it is late."""
    oldest = (
        f'relay_oldest_unreceipted_seconds{{{of}, precedence=~"{lanes}"}} / {seconds}'
        for lanes, seconds in DELIVERED_WITHIN.items()
    )
    return f"max({' or '.join(oldest)})"


def targets(queries: Sequence[Query], *, instant: bool = False) -> list[dict[str, Any]]:
    """Return the queries of a panel as Grafana has them."""
    return [
        {
            "refId": letter,
            "datasource": DATASOURCE,
            "expr": query.expression,
            "legendFormat": query.legend or "__auto",
            "instant": instant,
            "range": not instant,
            **({"format": "table"} if instant else {}),
        }
        for letter, query in zip(letters(), queries, strict=False)
    ]


def letters() -> Iterator[str]:
    """Return A, B, C and so on."""
    yield from map(chr, range(ord("A"), ord("Z") + 1))


def thresholds(words: Words) -> dict[str, Any]:
    """Return the colours of a number's steps."""
    steps = words or (Step(None, "text", ""),)
    return {"mode": "absolute", "steps": [{"color": one.colour, "value": one.at} for one in steps]}


def mappings(words: Words) -> list[dict[str, Any]]:
    """Return the words of a number's steps, as ranges that touch and leave nothing out."""
    ends = [*(one.at for one in words[1:]), None]
    return [
        {
            "type": "range",
            "options": {"from": one.at, "to": _below(end), "result": {"text": one.word, "color": one.colour, "index": index}},
        }
        for index, (one, end) in enumerate(zip(words, ends, strict=True))
    ]


def _below(end: float | None) -> float | None:
    """Return the last number before the next step; both ends of a range belong to it, and the first that fits counts."""
    return None if end is None else end - 1e-9


def override(matcher: str, of: str, **properties: object) -> dict[str, Any]:
    """Return properties of the fields that a matcher finds; two underscores in a name stand for a dot."""
    listed = [{"id": name.replace("__", "."), "value": value} for name, value in properties.items()]
    return {"matcher": {"id": matcher, "options": of}, "properties": listed}


def worded(words: Words) -> dict[str, Any]:
    """Return the properties of a field whose numbers are shown as words."""
    return {"mappings": mappings(words), "thresholds": thresholds(words), "unit": "none"}
