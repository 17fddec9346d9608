"""Private files: read only while nobody but their owner can read them.

A private key or password that the group or the world can read may have been read, so it is refused rather than used. What the
service manager hands over in ``$CREDENTIALS_DIRECTORY`` is its to guard: there the bits of the mode say nothing of who gets in.

Errors raised: ``Misconfigured`` (``key-file-exposed``, ``bad-key-file``).
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from relay.errors import Misconfigured

EXPOSED = stat.S_IRWXG | stat.S_IRWXO
CREDENTIALS = "CREDENTIALS_DIRECTORY"


def read(path: Path) -> bytes:
    """Return the bytes of a private file; raise ``Misconfigured`` when it can't be read, or by others than its owner."""
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            if mode & EXPOSED and not _is_credential(path):
                sentence = f"The mode of {path} is {mode:04o}: others than its owner may use it. Set it to 0600."
                raise Misconfigured("key-file-exposed", sentence)
            return file.read()
    except OSError as error:
        raise Misconfigured("bad-key-file", f"The key file {path} can't be read: {error.strerror}.") from error


def _is_credential(path: Path) -> bool:
    folder = os.environ.get(CREDENTIALS)
    return folder is not None and path.resolve().is_relative_to(Path(folder).resolve())
