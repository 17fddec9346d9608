"""The kinds of panel: one number with its word, lines over time, a table, a line of states; and how they fill the page.

Every panel says in its description what it shows and what to do, and leads to the runbooks of the alerts about it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from deploy.grafana.parts import (
    COUNT,
    DATASOURCE,
    Column,
    Query,
    Words,
    letters,
    mappings,
    override,
    targets,
    thresholds,
    worded,
)

WIDTH = 24


@dataclass(frozen=True, slots=True)
class Panel:
    """A panel: its size in Grafana's 24 columns, and its JSON without a place and a number."""

    width: int
    height: int
    body: dict[str, Any]


@dataclass(slots=True)
class Row:
    """A heading, and the panels under it."""

    title: str
    panels: Sequence[Panel] = field(default_factory=tuple)


def number(
    title: str,
    meaning: str,
    expression: str,
    words: Words,
    *,
    judged: str = "",
    unit: str = COUNT,
    runbooks: Sequence[str] = (),
    width: int = 4,
) -> Panel:
    """Return one number, and beside it the word for it: of that number, or of the expression ``judged``."""
    body = {
        **_common("stat", title, meaning, runbooks),
        "targets": [
            {**one, "format": "time_series"} for one in targets([Query(expression), Query(judged or expression)], instant=True)
        ],
        "options": {
            "colorMode": "value",
            "graphMode": "none",
            "orientation": "horizontal",
            "textMode": "value",
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        },
        "fieldConfig": {
            "defaults": {
                "unit": unit,
                "thresholds": thresholds(() if judged else words),
                "mappings": [],
                "color": {"mode": "thresholds"},
            },
            "overrides": [override("byFrameRefID", "B", **worded(words))],
        },
    }
    return Panel(width, 4, body)


def lines(
    title: str,
    meaning: str,
    queries: Sequence[Query],
    *,
    unit: str = COUNT,
    runbooks: Sequence[str] = (),
    width: int = 8,
    height: int = 8,
) -> Panel:
    """Return values over time, each told from the others by its name in the legend."""
    body = {
        **_common("timeseries", title, meaning, runbooks),
        "targets": targets(queries),
        "options": {
            "legend": {"displayMode": "table", "placement": "bottom", "calcs": ["lastNotNull", "max"], "showLegend": True},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
        "fieldConfig": {
            "defaults": {
                "unit": unit,
                "min": None,
                "thresholds": thresholds(()),
                "mappings": [],
                "color": {"mode": "palette-classic"},
                "custom": {"drawStyle": "line", "lineWidth": 2, "fillOpacity": 8, "showPoints": "auto", "spanNulls": False},
            },
            "overrides": [],
        },
    }
    return Panel(width, height, body)


def states(
    title: str,
    meaning: str,
    queries: Sequence[Query],
    words: Words,
    *,
    runbooks: Sequence[str] = (),
    width: int = 12,
    height: int = 8,
) -> Panel:
    """Return states over time, each written out as a word."""
    body = {
        **_common("state-timeline", title, meaning, runbooks),
        "targets": targets(queries),
        "options": {
            "showValue": "auto",
            "mergeValues": True,
            "rowHeight": 0.9,
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
            "tooltip": {"mode": "single", "sort": "none"},
        },
        "fieldConfig": {
            "defaults": {
                "unit": "none",
                "thresholds": thresholds(words),
                "mappings": mappings(words),
                "color": {"mode": "thresholds"},
                "custom": {"fillOpacity": 80, "lineWidth": 0},
            },
            "overrides": [],
        },
    }
    return Panel(width, height, body)


def table(
    title: str,
    meaning: str,
    columns: Sequence[Column],
    *,
    by: Sequence[str],
    sort: str,
    runbooks: Sequence[str] = (),
    links: Sequence[dict[str, Any]] = (),
    width: int = 24,
    height: int = 9,
) -> Panel:
    """Return a table of what the expressions give for the same labels ``by``, the highest of the column ``sort`` first."""
    names = {f"Value #{letter}": column.heading for letter, column in zip(letters(), columns, strict=False)}
    if len(columns) == 1:  # the result of a query that is alone is called so
        names = {"Value": columns[0].heading}
    order = {name: place for place, name in enumerate([*by, *names])}
    columned = [
        override(
            "byName",
            one.heading,
            **({**worded(one.words), "custom__cellOptions": {"type": "color-text"}} if one.words else {"unit": one.unit}),
        )
        for one in columns
    ]
    linked = [override("byName", by[0], links=list(links))] if links else []
    body = {
        **_common("table", title, meaning, runbooks),
        "targets": targets([Query(one.expression) for one in columns], instant=True),
        "transformations": [
            {"id": "merge", "options": {}},
            {
                "id": "organize",
                "options": {"excludeByName": {"Time": True}, "indexByName": order, "renameByName": names},
            },
        ],
        "options": {"showHeader": True, "cellHeight": "sm", "sortBy": [{"displayName": sort, "desc": True}]},
        "fieldConfig": {
            "defaults": {"unit": "none", "thresholds": thresholds(()), "mappings": [], "custom": {"filterable": True}},
            "overrides": [*columned, *linked],
        },
    }
    return Panel(width, height, body)


def placed(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return every panel with its number and its place: from the left, as many beside each other as fit."""
    made: list[dict[str, Any]] = []
    top = 0
    for row in rows:
        made.append({"type": "row", "title": row.title, "collapsed": False, "panels": [], **_place(made, 0, top, WIDTH, 1)})
        left, top, tallest = 0, top + 1, 0
        for panel in row.panels:
            if left + panel.width > WIDTH:
                left, top, tallest = 0, top + tallest, 0
            made.append({**panel.body, **_place(made, left, top, panel.width, panel.height)})
            left, tallest = left + panel.width, max(tallest, panel.height)
        top += tallest
    return made


def _place(made: Sequence[object], left: int, top: int, width: int, height: int) -> dict[str, Any]:
    return {"id": len(made) + 1, "gridPos": {"x": left, "y": top, "w": width, "h": height}}


def _common(kind: str, title: str, meaning: str, runbooks: Sequence[str]) -> dict[str, Any]:
    links = [
        {"title": f"Runbook {name}", "url": f"${{runbooks}}/{name}.md", "targetBlank": True, "type": "link"} for name in runbooks
    ]
    return {"type": kind, "title": title, "description": meaning, "datasource": DATASOURCE, "links": links}
