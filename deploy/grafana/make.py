"""Writes the dashboards: `python -m deploy.grafana.make`. A test compares what is committed with what this makes."""

from __future__ import annotations

import json
from pathlib import Path

from deploy.grafana import of_centre, of_link, of_network

FOLDER = Path(__file__).resolve().parent / "dashboards"


def dashboards() -> dict[str, str]:
    """Return each dashboard's JSON by the name of its file."""
    made = {"network.json": of_network, "centre.json": of_centre, "link.json": of_link}
    return {name: json.dumps(one.dashboard(), indent=1, ensure_ascii=False) + "\n" for name, one in made.items()}


def main() -> None:
    """Write them."""
    FOLDER.mkdir(exist_ok=True)
    for name, text in dashboards().items():
        (FOLDER / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
