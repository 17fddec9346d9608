"""Writes the pages and contracts that come from the code, so that they can't say anything else.

``python -m docs.generate`` writes them; ``tests/test_docs.py`` checks that what is committed is what would be written: in
``docs/reference/`` ``commands.md``, ``errors.md``, ``settings.md``, ``metrics.md``, ``logs.md`` and
``messages/``; ``config/node.toml``; and everything in
``schemas/`` but the examples and the vectors.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from docs import commands, logs
from relay import api, schema
from relay.errors import catalogue
from relay.metrics import LABELS, Metrics, unit
from relay.settings import Settings

ROOT = Path(__file__).resolve().parent.parent
NOTE = "<!-- Written by `make docs` from the code. Change the code, not this page. -->\n"


def pages() -> dict[str, str]:
    """Return every generated file's content by its path."""
    return {
        "docs/reference/commands.md": commands.page(NOTE),
        "docs/reference/errors.md": errors(),
        "docs/reference/settings.md": settings(),
        "docs/reference/metrics.md": metrics(),
        "docs/reference/logs.md": logs.page(NOTE),
        "config/node.toml": example_settings(),
        **schema.pages(),
        "schemas/openapi.json": json.dumps(api.openapi(), indent=2, ensure_ascii=False) + "\n",
    }


def errors() -> str:
    """Return the page of error codes."""
    lines = [
        f"{NOTE}\n# Error codes\n",
        "The same text answers `relay explain CODE`. A problem document carries the code as `code`.\n",
    ]
    for entry in sorted(catalogue().values(), key=lambda entry: entry.code):
        status = f" (HTTP {entry.status})" if entry.status else ""
        again = " The relay tries again by itself." if entry.retried else ""
        lines.append(f"## `{entry.code}`\n\n**{entry.title}**{status}. {entry.meaning}{again}\n\nWhat to do: {entry.action}\n")
    return "\n".join(lines)


def settings() -> str:
    """Return the page of settings."""
    lines = [
        f"{NOTE}\n# Settings\n",
        "Read from the file named by `--config` (TOML) and the environment, which wins. Paths start from the file's folder.",
        "`config/node.toml` is an example with every key.\n",
        "| key | environment | default | meaning |",
        "|---|---|---|---|",
    ]
    for key, field in keys(Settings):
        variable = "RELAY_" + key.upper().replace(".", "__")
        default = "required" if field.default is PydanticUndefined else f"`{plain(field.default)}`"
        lines.append(f"| `{key}` | `{variable}` | {default} | {field.description} |")
    return "\n".join(lines) + "\n"


def example_settings() -> str:
    """Return the example settings file: every key with its meaning above it."""
    given = {"centre": "BRU", "network": "0" * 64, "broker.url": "amqp://BRU@127.0.0.1:5672/%2F"}
    lines = ["# Settings of a node: every key, its meaning and its default. `relay network new` writes a shorter one that works."]
    section = ""
    for key, field in keys(Settings):
        table, _, name = key.rpartition(".")
        if table != section:
            lines.append(f"\n[{table}]")
            section = table
        value = given.get(key, field.default)
        unset, shown = ("# ", (field.examples or [""])[0]) if value is None else ("", value)
        lines.append(f"\n# {field.description}\n{unset}{name} = {toml(shown)}")
    return "\n".join(lines) + "\n"


def metrics() -> str:
    """Return the page of metrics."""
    made = Metrics()
    lines = [
        f"{NOTE}\n# Metrics\n",
        "Served at `/metrics` (with a token of any role but `admin`). A histogram is the series `_bucket`, `_sum` and `_count`.",
        "Gauges about a peer end when it leaves the directory; counters stay.\n",
        "| metric | type | labels | unit | meaning |",
        "|---|---|---|---|---|",
    ]
    for metric in made.table():
        family = next(iter(metric.describe()))
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels = ", ".join(f"`{label}`" for label in metric._labelnames)
        lines.append(f"| `{name}` | {family.type} | {labels} | {unit(metric)} | {family.documentation} |")
    lines += ["\n## Labels\n", "| label | values |", "|---|---|"]
    lines += [f"| `{label}` | {values} |" for label, values in sorted(LABELS.items())]
    lines += ["\n## Of the process\n", "As `prometheus_client` gives them.\n", "| metric | type | meaning |", "|---|---|---|"]
    names = {next(iter(metric.describe())).name for metric in made.table()}
    for family in made.registry.collect():
        if family.name not in names:
            name = f"{family.name}_total" if family.type == "counter" else family.name
            lines.append(f"| `{name}` | {family.type} | {family.documentation} |")
    return "\n".join(lines) + "\n"


def keys(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Return every key of a settings model, plain keys before sections."""
    sections = []
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            sections.append((name, field.annotation))
        else:
            yield f"{prefix}{name}", field
    for name, section in sections:
        yield from keys(section, f"{prefix}{name}.")


def plain(value: object) -> str:
    """Return a default as a person writes it."""
    if value is None:
        return "none"
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def toml(value: object) -> str:
    """Return a value as TOML."""
    if isinstance(value, tuple):
        return "[" + ", ".join(toml(item) for item in value) + "]"
    if isinstance(value, bool):
        return json.dumps(value)
    return str(value) if isinstance(value, (int, float)) else json.dumps(str(value))


def main() -> None:
    """Write everything."""
    for path, content in pages().items():
        (ROOT / path).write_text(content, encoding="utf-8")
    schema.write(ROOT / "schemas")


if __name__ == "__main__":
    main()
