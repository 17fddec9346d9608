"""A store looked at from outside: read-only, while its node runs or not, without taking it over, mending or migrating anything.

Error raised: ``Misconfigured`` with the code ``no-store``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from sqlalchemy import Connection, create_engine, exc

from relay.errors import Misconfigured


@contextmanager
def reading(path: Path) -> Iterator[Connection]:
    """Give a connection that can only read, on one snapshot of what is committed."""
    if not path.is_file():
        raise Misconfigured("no-store", f"There is no store {path}.")
    engine = create_engine(f"sqlite:///file:{quote(str(path.resolve()))}?mode=ro&uri=true", connect_args={"timeout": 5})
    try:
        with engine.connect() as connection:
            yield connection
    except exc.DatabaseError as error:
        raise Misconfigured("no-store", f"The store {path} can't be read: {error.orig}.") from error
    finally:
        engine.dispose()
