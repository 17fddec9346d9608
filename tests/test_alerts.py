"""Alert rules: each says why its threshold is what it is, is tested firing and silent, and has a runbook that can be followed."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from relay import comparison, custody, deadlines, echoes, witnesses
from relay.cli import app
from relay.log import Event
from relay.metrics import Metrics
from relay.settings import AlarmSettings, LimitSettings

ROOT = Path(__file__).resolve().parent.parent
PROMETHEUS = ROOT / "deploy" / "prometheus"
RUNBOOKS = ROOT / "docs" / "runbooks"
HOWTO = ROOT / "docs" / "howto" / "watch-with-prometheus.md"
ALERTS = sorted(path.stem for path in (PROMETHEUS / "rules").glob("*.yml"))
SEVERITIES = {"page", "ticket"}
HEADINGS = ["Meaning", "Impact", "Diagnosis", "Mitigation"]
OWN = {"up", "process_start_time_seconds"}
"""Series that are not the relay's: Prometheus' own, and of the process."""
COMMAND = re.compile(r"(?:\$ |`)relay((?: [a-z][a-z-]*)+)([^`|\n]*)")


def rule(alert: str) -> dict[str, Any]:
    """Return the one rule of an alert's file."""
    groups = yaml.safe_load((PROMETHEUS / "rules" / f"{alert}.yml").read_text(encoding="utf-8"))["groups"]
    (group,) = groups
    (found,) = group["rules"]
    assert group["name"] == found["alert"] == alert
    return dict(found)


def promtool(*arguments: str | Path) -> None:
    """Run promtool; what it says is what a failure shows."""
    program = shutil.which("promtool")
    assert program, "promtool is missing: `make test` installs it (deploy/packages.sh)"
    done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def exposed() -> set[str]:
    """Return the name of every series that a node may have."""
    endings = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "gauge": ("",), "info": ("_info",)}
    return {family.name + ending for family in Metrics().registry.collect() for ending in endings.get(family.type, ("",))}


def commands() -> Iterator[tuple[tuple[str, ...], set[str]]]:
    """Return every command as its words, with its options."""

    def below(command: Any, words: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], set[str]]]:
        if not hasattr(command, "commands"):
            yield words, {option for parameter in command.params for option in parameter.opts}
            return
        for name, one in command.commands.items():
            yield from below(one, (*words, name))

    yield from below(typer.main.get_command(app), ())


def test_promtool_finds_no_fault_in_rules_and_configuration() -> None:
    """Every expression and template parses, and the scrape configuration is valid."""
    promtool("check", "rules", *sorted((PROMETHEUS / "rules").glob("*.yml")))
    promtool("check", "config", "--syntax-only", PROMETHEUS / "prometheus.yml")


def test_every_alert_fires_when_it_should_and_is_silent_when_not() -> None:
    """All rules run against series, in one go of promtool."""
    promtool("test", "rules", *sorted((PROMETHEUS / "tests").glob("*.yml")))


def test_nothing_stands_alone() -> None:
    """Each alert has its tests and its runbook, and there is no test or runbook without its alert."""
    assert sorted(path.stem for path in (PROMETHEUS / "tests").glob("*.yml")) == ALERTS
    assert sorted(path.stem for path in RUNBOOKS.glob("*.md") if path.stem != "README") == ALERTS


def test_the_list_of_runbooks_names_each_alert_with_its_severity() -> None:
    """Whoever looks for an alert finds it in the list, once."""
    listed = re.findall(
        r"^\| \[(\w+)\]\((\w+)\.md\) \| `(\w+)` \|", (RUNBOOKS / "README.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert sorted(listed) == sorted((alert, alert, rule(alert)["labels"]["severity"]) for alert in ALERTS)


@pytest.mark.parametrize("alert", ALERTS)
def test_a_rule_says_what_it_means_and_why_so(alert: str) -> None:
    """A comment has the reasons; severity, `for`, summary, description and the runbook's path are there."""
    found = rule(alert)
    text = (PROMETHEUS / "rules" / f"{alert}.yml").read_text(encoding="utf-8")
    assert re.match(r"# \S", text), "begin with why the threshold and `for` are what they are"
    assert found.keys() == {"alert", "expr", "for", "labels", "annotations"}
    assert found["labels"].keys() == {"severity"}
    assert found["labels"]["severity"] in SEVERITIES
    annotations = found["annotations"]
    assert annotations.keys() == {"summary", "description", "runbook_url"}
    assert annotations["runbook_url"] == f"docs/runbooks/{alert}.md"
    assert "{{ $labels.centre }}" in annotations["summary"]
    assert annotations["summary"].endswith(".")
    assert annotations["description"].endswith(".")


@pytest.mark.parametrize("alert", ALERTS)
def test_a_rule_uses_series_that_a_node_has(alert: str) -> None:
    """No rule asks for a metric that was renamed."""
    used = set(re.findall(r"\b(?:relay|process)_[a-z_]+|\bup\b", re.sub(r'"[^"]*"', '""', str(rule(alert)["expr"]))))
    assert used
    assert used - exposed() - OWN == set()


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_is_tested_firing_and_silent(alert: str) -> None:
    """A case has the whole alert with its labels and its words; another has none."""
    text = (PROMETHEUS / "tests" / f"{alert}.yml").read_text(encoding="utf-8")
    cases = [one for case in yaml.safe_load(text)["tests"] for one in case["alert_rule_test"]]
    assert {one["alertname"] for one in cases} == {alert}
    firing = [expected for one in cases for expected in one["exp_alerts"]]
    assert firing, "no case in which it fires"
    assert [one for one in cases if not one["exp_alerts"]], "no case in which it is silent"
    for case in yaml.safe_load(text)["tests"]:
        looks = case["alert_rule_test"]
        if any(one["exp_alerts"] for one in looks):
            assert not looks[0]["exp_alerts"], "look a moment before it fires, too: that shows `for` and the threshold"
    for expected in firing:
        assert expected["exp_labels"]["severity"] == rule(alert)["labels"]["severity"]
        assert expected["exp_annotations"].keys() == rule(alert)["annotations"].keys()


@pytest.mark.parametrize("alert", ALERTS)
def test_a_runbook_has_its_four_parts(alert: str) -> None:
    """Meaning, impact, diagnosis, mitigation, in this order, none empty; first the severity that the rule has."""
    text = (RUNBOOKS / f"{alert}.md").read_text(encoding="utf-8")
    title, *parts = re.split(r"^## ", text, flags=re.MULTILINE)
    assert title.startswith(f"# {alert}\n\n`{rule(alert)['labels']['severity']}`: ")
    assert [part.partition("\n")[0] for part in parts] == HEADINGS
    assert all(part.partition("\n")[2].strip() for part in parts)
    assert len(text.splitlines()) <= 60, "too long for three in the morning"


@pytest.mark.parametrize("page", [*sorted(RUNBOOKS.glob("*.md")), HOWTO], ids=lambda page: page.stem)
def test_what_a_page_tells_to_type_can_be_typed(page: Path) -> None:
    """Every command exists and takes the options that stand behind it, and a runbook gives one at least."""
    known = dict(commands())
    written = COMMAND.findall(page.read_text(encoding="utf-8"))
    assert written
    for words, rest in written:
        named = tuple(words.split())
        command = next((named[:n] for n in (3, 2, 1) if named[:n] in known), None)
        assert command is not None, f"relay {words}"
        assert set(re.findall(r"(?<=\s)--[a-z-]+", rest)) - known[command] == set(), f"relay{words}{rest}"


def test_a_line_of_the_log_that_a_runbook_names_can_be_found() -> None:
    """Whoever looks for `node.ready` in the journal must not look in vain."""
    text = "\n".join(path.read_text(encoding="utf-8") for path in RUNBOOKS.glob("*.md"))
    subjects = {event.value.partition(".")[0] for event in Event}
    named = {word for word in re.findall(r"`([a-z-]+\.[a-z-]+)`", text) if word.partition(".")[0] in subjects}
    assert named >= {"node.ready", "directory.refused"}
    others = {"directory.bundle", "directory.url", "directory.file", "handover.attempts"}  # files and settings
    assert named - {event.value for event in Event} - others == set()


def test_lateness_is_what_the_settings_promise() -> None:
    """The thresholds of the rules follow from the defaults of the settings."""
    promised = AlarmSettings().model_dump()
    for precedence, seconds in promised.items():
        expression = rule(f"Relay{precedence.title()}Unreceipted")["expr"]
        assert expression.endswith(f" > {int(seconds * deadlines.DELIVERED_FACTOR)}")
    assert rule("RelayRecallOpen")["expr"].endswith(f" > {int(promised['priority'] * deadlines.DELIVERED_FACTOR)}")
    assert rule("RelayOutboxFilling")["expr"].endswith(f" > {LimitSettings().queued_envelopes // 2}")


def test_every_alarm_about_a_peer_has_its_alert() -> None:
    """Whatever code the node raises about a peer's store, record, keys or directory, one alert speaks of it."""
    raised = {value for module in (echoes, witnesses, custody, comparison) for value in alarm_codes(module)}
    assert {"peer-went-back", "audit-split-view", "key-revoked", "directory-mismatch", "audit-mismatch"} <= raised
    selectors = {
        alert: {
            one
            for pair in re.findall(r'relay_peer_alarms_total\{code=(?:~"([^"]+)"|"([^"]+)")', rule(alert)["expr"])
            for one in pair
        }
        for alert in ALERTS
    }
    for code in raised:
        speaking = [alert for alert, some in selectors.items() if any(one and re.fullmatch(one, code) for one in some)]
        assert len(speaking) == 1, f"{code}: {speaking}"


def alarm_codes(module: Any) -> Iterator[str]:
    """Return the codes with which a module calls for an alarm: constants in capitals of the form of a code."""
    for name in re.findall(r"\b[A-Z_]{4,}\b", Path(module.__file__).read_text(encoding="utf-8")):
        value = getattr(module, name, None)
        if isinstance(value, str) and re.fullmatch(r"(?:peer|audit|key|directory)-[a-z-]+", value):
            yield value


def test_the_advice_for_alertmanager_names_alerts_that_exist() -> None:
    """An inhibition by a name that is gone would inhibit nothing."""
    (advice,) = re.findall(r"```yaml\n(.*?)```", HOWTO.read_text(encoding="utf-8"), re.DOTALL)
    matchers = re.findall(r'alertname=~?"([^"]+)"', advice)
    assert {one["equal"][0] for one in yaml.safe_load(advice)["inhibit_rules"]} == {"centre"}
    assert [one for one in matchers if not any(re.fullmatch(one, alert) for alert in ALERTS)] == []
    assert set(re.findall(r'severity="(\w+)"', advice)) == SEVERITIES
