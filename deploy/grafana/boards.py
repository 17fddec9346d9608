"""A dashboard around its panels: its name, its variables, the links to the other two.

Prometheus gives every node a label ``centre`` (deploy/prometheus/prometheus.yml); the variables read their choices from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from deploy.grafana.panels import Row, placed
from deploy.grafana.parts import DATASOURCE, RUNBOOKS

SCHEMA = 39
"""The schema of dashboards of Grafana 11; 10.3 and later read it as well."""

CENTRES = 'relay_build_info{centre!=""}'
TITLES = {"relay-network": "Relay: network", "relay-centre": "Relay: centre", "relay-link": "Relay: link"}


def board(uid: str, meaning: str, variables: Sequence[dict[str, Any]], rows: Sequence[Row]) -> dict[str, Any]:
    """Return a dashboard; ``uid`` is its fixed address."""
    return {
        "uid": uid,
        "title": TITLES[uid],
        "description": meaning,
        "tags": ["intercentre-relay"],
        "schemaVersion": SCHEMA,
        "version": 1,
        "editable": False,
        "graphTooltip": 1,
        "timezone": "utc",
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "links": [_link(other) for other in TITLES if other != uid],
        "annotations": {"list": []},
        "templating": {"list": [_datasource(), *variables, _runbooks()]},
        "panels": placed(rows),
    }


def choice(name: str, label: str, query: str, *, many: bool = False) -> dict[str, Any]:
    """Return a variable whose choices are the values of the label that ``query`` asks for."""
    return {
        "type": "query",
        "name": name,
        "label": label,
        "datasource": DATASOURCE,
        "query": {"query": query, "refId": f"variable-{name}"},
        "definition": query,
        "refresh": 2,
        "sort": 1,
        "multi": many,
        "includeAll": many,
        **({"allValue": ".+", "current": {"text": "All", "value": "$__all"}} if many else {}),
    }


def to_link(centre: str = "${__data.fields.centre}", peer: str = "${__data.fields.peer}") -> dict[str, Any]:
    """Return the link from a row to the dashboard of a link between two centres."""
    url = f"/d/relay-link?var-centre={centre}&var-peer={peer}&${{__url_time_range}}"
    return {"title": "This link", "url": url, "targetBlank": False}


def to_centre() -> dict[str, Any]:
    """Return the link from a row to the dashboard of its centre."""
    url = "/d/relay-centre?var-centre=${__data.fields.centre}&${__url_time_range}"
    return {"title": "This centre", "url": url, "targetBlank": False}


def _link(uid: str) -> dict[str, Any]:
    return {"type": "link", "title": TITLES[uid], "url": f"/d/{uid}", "keepTime": True, "includeVars": True, "icon": "dashboard"}


def _datasource() -> dict[str, Any]:
    return {"type": "datasource", "name": "datasource", "label": "Prometheus", "query": "prometheus", "hide": 0, "refresh": 1}


def _runbooks() -> dict[str, Any]:
    value = {"text": RUNBOOKS, "value": RUNBOOKS, "selected": True}
    return {"type": "constant", "name": "runbooks", "label": "Runbooks", "query": RUNBOOKS, "current": value, "hide": 2}
