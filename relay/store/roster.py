"""What the audit record was told of the API's clients last: a digest of each entry, by name."""

from __future__ import annotations

import json
from typing import cast

from sqlalchemy import Connection, select

from relay.store.common import upsert
from relay.store.tables import META

_NAME = "api-clients"


def known(connection: Connection) -> dict[str, str]:
    """Return the digest of each client's entry that is on record; nothing when none is."""
    value = connection.execute(select(META.c.value).where(META.c.name == _NAME)).scalar()
    return cast("dict[str, str]", json.loads(value)) if value is not None else {}


def note(connection: Connection, digests: dict[str, str]) -> None:
    """Remember what is on record now."""
    upsert(connection, META, [{"name": _NAME, "value": json.dumps(digests, sort_keys=True)}], ["value"])
