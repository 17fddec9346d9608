"""What watches a network: a real Prometheus beside live nodes, and every expression that dashboards and alert rules ask of it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import os
import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import yaml

from relay.network import Network
from relay.ports import HOST, free_ports
from tests.live import PATIENCE, eventually

DEPLOY = Path(__file__).resolve().parent.parent / "deploy"
DASHBOARDS = sorted((DEPLOY / "grafana" / "dashboards").glob("*.json"))
RULES = sorted((DEPLOY / "prometheus" / "rules").glob("*.yml"))
WINDOW = "8s"
_COMPARED = re.compile(r"(==|!=|>=|<=|>|<)(?!\s*bool\b)(?![~=])")
_QUOTED = re.compile(r"\"[^\"]*\"|\{[^}]*\}")


@dataclass(frozen=True, slots=True)
class Asked:
    """An expression, and the panel or rule that it stands in."""

    place: str
    expression: str


def panels(dashboard: Path) -> list[dict[str, Any]]:
    """Return the panels of a dashboard, without the headings between them."""
    return [one for one in json.loads(dashboard.read_bytes())["panels"] if one["type"] != "row"]


def of_panels() -> Iterator[Asked]:
    """Return every expression of every panel, as it stands there."""
    for dashboard in DASHBOARDS:
        for panel in panels(dashboard):
            for target in panel["targets"]:
                yield Asked(f"{dashboard.stem}: {panel['title']} {target['refId']}", target["expr"])


def of_rules() -> Iterator[Asked]:
    """Return the expression of every alert rule as one that has a value whether or not there is something to say."""
    for file in RULES:
        for group in yaml.safe_load(file.read_text(encoding="utf-8"))["groups"]:
            for rule in group["rules"]:
                yield Asked(f"{file.stem}: {rule.get('alert', rule.get('record'))}", always(rule["expr"]))


def of_metrics() -> Iterator[Asked]:
    """Return every metric that a rule names, alone: a rule with an ``or`` has an answer when one side has."""
    for file in RULES:
        for rule in (one for group in yaml.safe_load(file.read_text(encoding="utf-8"))["groups"] for one in group["rules"]):
            for name in sorted(set(re.findall(r"\b(?:relay|process)_\w+", rule["expr"]))):
                yield Asked(f"{file.stem}: {name}", name)


def always(expression: str) -> str:
    """Return a rule's expression with comparisons that answer 1 or 0, and with what may be absent taken as it is when present.

    ``a unless b`` becomes ``a``, asked together with ``b`` elsewhere in the rules; ``absent(a)`` becomes ``a``.
    """
    plain = "\n".join(line.split(" #")[0] for line in expression.splitlines())
    made, kept = "", 0
    for quoted in _QUOTED.finditer(plain):  # what stands in selectors is no comparison
        made += _COMPARED.sub(r"\1 bool", plain[kept : quoted.start()]) + quoted.group()
        kept = quoted.end()
    made += _COMPARED.sub(r"\1 bool", plain[kept:])
    return re.sub(r"\babsent\s*\(", "(", made)


def substituted(expression: str, values: Mapping[str, str]) -> str:
    """Return a panel's expression with its variables replaced, as Grafana would."""
    for name, value in {"__rate_interval": WINDOW, "__range": "1m", **values}.items():
        expression = expression.replace(f"${{{name}}}", value).replace(f"${name}", value)
    assert "$" not in expression, expression
    return expression


class Prometheus:
    """A running Prometheus, asked over HTTP."""

    def __init__(self, url: str) -> None:
        self._client = httpx2.AsyncClient(base_url=url, timeout=PATIENCE, trust_env=False)

    async def get(self, path: str, **parameters: str) -> Any:
        """Return the data of an answer that is a success."""
        answer = await self._client.get(f"/api/v1/{path}", params=parameters)
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]

    async def has_data(self, expression: str) -> bool:
        """Return whether an expression gives at least one number now."""
        found = await self.get("query", query=expression)
        samples = [found["result"]] if found["resultType"] in {"scalar", "string"} else [one["value"] for one in found["result"]]
        return any(not math.isnan(float(value)) for _, value in samples)

    async def ready(self) -> bool:
        """Return whether it answers."""
        with contextlib.suppress(httpx2.TransportError):
            return (await self._client.get("/-/ready")).status_code == 200
        return False

    async def close(self) -> None:
        """Let the connection go."""
        await self._client.aclose()


def configuration(network: Network, centres: Sequence[str], tokens: Path) -> dict[str, Any]:
    """Return the configuration that is deployed, with these centres, and looking every two seconds, not four times a minute."""
    given: dict[str, Any] = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text(encoding="utf-8"))
    given["global"] = {"scrape_interval": "2s", "scrape_timeout": "2s", "evaluation_interval": "2s"}
    given["rule_files"] = [str(file) for file in RULES]
    del given["alerting"]
    job = given["scrape_configs"][0]
    given["scrape_configs"] = [
        {
            **job,
            "job_name": f"relay-{centre}",
            "authorization": {"credentials_file": str(tokens / centre)},
            "static_configs": [{"targets": [network.listen(centre)], "labels": {"centre": centre, "job": job["job_name"]}}],
        }
        for centre in centres
    ]
    return given


@contextlib.asynccontextmanager
async def prometheus(folder: Path, given: dict[str, Any], bond: Mapping[str, str]) -> AsyncIterator[Prometheus]:
    """Run Prometheus on a port of loopback with its data in a folder; it is ended by its process id, whatever happened.

    ``bond`` is the environment that ends it, too, should the process of the tests be killed.
    """
    assert shutil.which("prometheus"), "the system package prometheus is needed: make test-packages installs it"
    port = free_ports(1)[0]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(given), encoding="utf-8")
    words = ["prometheus", f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'data'}"]
    with (folder / "prometheus.log").open("wb") as log:
        words.append(f"--web.listen-address={HOST}:{port}")
        ended_with_us = {**os.environ, **bond}
        process = subprocess.Popen(words, stdout=log, stderr=log, env=ended_with_us)  # noqa: ASYNC220 - it must be there to be ended
    running = Prometheus(f"http://{HOST}:{port}")
    try:
        await eventually(running.ready)
        yield running
    finally:
        process.terminate()
        await running.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            await asyncio.to_thread(process.wait, 5)
        process.kill()
        process.wait()
