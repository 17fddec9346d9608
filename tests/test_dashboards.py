"""The dashboards as they are provisioned: made by the generator, explained to whoever looks, no colour without a word."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.grafana import make
from deploy.grafana.boards import TITLES
from deploy.grafana.parts import DELIVERED_WITHIN
from relay.deadlines import DELIVERED_FACTOR
from relay.metrics import Metrics
from relay.settings import AlarmSettings
from tests.watched import DASHBOARDS, DEPLOY, of_panels, panels, substituted

RUNBOOKS = DEPLOY.parent / "docs" / "runbooks"
BUILT_IN = {"stat", "table", "timeseries", "state-timeline"}
ANY = {"centre": "AAA", "peer": "BBB"}
PANELS = [pytest.param(panel, id=f"{file.stem}: {panel['title']}") for file in DASHBOARDS for panel in panels(file)]


def known_metrics() -> set[str]:
    """Return every name under which a node's metrics can be asked for."""
    names = {"up"}
    for family in Metrics().registry.collect():
        names.add(family.name)
        if family.type == "counter":
            names.add(f"{family.name}_total")
        if family.type == "histogram":
            names |= {f"{family.name}_{ending}" for ending in ("bucket", "sum", "count")}
    return names


def test_what_is_committed_is_what_the_generator_makes() -> None:
    """Nobody edits the JSON by hand: `python -m deploy.grafana.make` writes it."""
    assert {file.name: file.read_text(encoding="utf-8") for file in DASHBOARDS} == make.dashboards()


def test_each_dashboard_has_its_fixed_address_and_leads_to_the_others() -> None:
    """Addresses do not change, so that a bookmark and a runbook's link last."""
    made = {json.loads(file.read_bytes())["uid"]: json.loads(file.read_bytes()) for file in DASHBOARDS}
    assert set(made) == set(TITLES)
    for uid, board in made.items():
        assert {link["url"] for link in board["links"]} == {f"/d/{other}" for other in TITLES if other != uid}
        assert board["timezone"] == "utc"
        assert {one["name"] for one in board["templating"]["list"]} >= {"datasource", "centre", "runbooks"}


@pytest.mark.parametrize("file", DASHBOARDS, ids=lambda file: file.stem)
def test_panels_have_places_of_their_own(file: Path) -> None:
    """No panel lies over another or outside of the page, and each has a number of its own."""
    board = json.loads(file.read_bytes())["panels"]
    cells = [
        (x, y)
        for place in (one["gridPos"] for one in board)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24
    assert sorted(one["id"] for one in board) == list(range(1, len(board) + 1))


@pytest.mark.parametrize("panel", PANELS)
def test_a_panel_says_what_it_means_and_where_to_read_on(panel: dict[str, Any]) -> None:
    """Title, a description in sentences, a unit, a kind that Grafana has without a plug-in, runbooks that exist."""
    assert panel["type"] in BUILT_IN
    assert panel["title"]
    assert re.fullmatch(r"[A-Z`].{40,}\.", panel["description"])
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    named = [re.fullmatch(r"\$\{runbooks\}/(\w+\.md)", link["url"]) for link in panel["links"]]
    assert [one and one[1] for one in named if not one or not (RUNBOOKS / one[1]).exists()] == []


@pytest.mark.parametrize("panel", PANELS)
def test_a_colour_never_stands_without_a_word(panel: dict[str, Any]) -> None:
    """Wherever a number has more than one colour, a word for each of them is shown for it, too."""
    config = panel["fieldConfig"]
    fields = [config["defaults"], *({one["id"]: one["value"] for one in field["properties"]} for field in config["overrides"])]
    for field in fields:
        steps = field.get("thresholds", {}).get("steps", [])
        shown = field.get("mappings") or [one for other in fields for one in other.get("mappings") or []]
        words = {one["options"]["result"]["text"] for one in shown}
        if len(steps) > 1:
            assert len(words) >= len({one["color"] for one in steps}), panel["title"]


def test_every_runbook_is_reached_from_a_panel() -> None:
    """Whatever an alert is about can be seen, and the panel that shows it leads to what to do."""
    linked = {link["url"].rpartition("/")[2] for file in DASHBOARDS for panel in panels(file) for link in panel["links"]}
    assert {file.name for file in RUNBOOKS.glob("Relay*.md")} - linked == set()


def test_what_counts_as_late_is_what_the_settings_say() -> None:
    """The words about a message's age follow the times after which a node raises its alarm."""
    seconds = AlarmSettings().model_dump()
    assert {lanes.partition("|")[0]: limit for lanes, limit in DELIVERED_WITHIN.items()} == {
        precedence: DELIVERED_FACTOR * limit for precedence, limit in seconds.items()
    }


def test_every_metric_of_a_panel_exists() -> None:
    """A panel asks for nothing that no node has, and for counters by the name that they have at Prometheus."""
    asked = {name for one in of_panels() for name in re.findall(r"\b(?:relay|process)_\w+|\bup\b", one.expression)}
    assert asked - known_metrics() == set()


def test_every_expression_is_one(tmp_path: Path) -> None:
    """Prometheus' own checker reads each expression, with the variables replaced."""
    assert shutil.which("promtool"), "the system package prometheus is needed: make test-packages installs it"
    rules = [{"record": f"panel:{n}", "expr": substituted(one.expression, ANY)} for n, one in enumerate(of_panels())]
    file = tmp_path / "panels.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}), encoding="utf-8")
    said = subprocess.run(["promtool", "check", "rules", str(file)], capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stdout + said.stderr


def test_what_is_provisioned_names_what_there_is() -> None:
    """Grafana finds the dashboards where the compose file puts them, and Prometheus by the environment."""
    source = yaml.safe_load((DEPLOY / "grafana" / "provisioning" / "datasources" / "prometheus.yml").read_text())
    assert [one["url"] for one in source["datasources"]] == ["$PROMETHEUS_URL"]
    provider = yaml.safe_load((DEPLOY / "grafana" / "provisioning" / "dashboards" / "relay.yml").read_text())["providers"][0]
    volumes = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]["grafana"]["volumes"]
    assert f"./grafana/dashboards:{provider['options']['path']}:ro" in volumes
