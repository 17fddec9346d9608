"""What a command says that is run in a thread beside the nodes of this process, whose log goes to the same place."""

from __future__ import annotations

import contextlib
import io
import threading

from relay import cli


class _OwnThread(io.StringIO):
    """Keeps what the thread that made it writes: another's line may come in between a line of its own and the end of that."""

    def __init__(self) -> None:
        super().__init__()
        self._thread = threading.get_ident()
        self.buffer = self

    def write(self, text: str | bytes) -> int:
        """Take what this thread writes, as text or as bytes."""
        if threading.get_ident() == self._thread:
            super().write(text if isinstance(text, str) else text.decode())
        return len(text)


def said(words: list[str]) -> tuple[int, str]:
    """Run a command in this thread; return how it ended and what it wrote to standard output."""
    out = _OwnThread()
    with contextlib.redirect_stdout(out):
        return cli.run(words), out.getvalue()
