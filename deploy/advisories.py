"""Ask whether a locked dependency has a known vulnerability: `make advisories`.

Reads what `pip-audit --format json` says of a lock. Exit status 1 when an advisory names one of the versions. Where the service
of advisories can't be asked (no network, or an index that carries no advisories) nothing is known, which is said and is no
failure: a machine without the internet must be able to check everything else.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

LIMIT_SECONDS = 120


def ask(lock: Path) -> list[dict[str, Any]] | None:
    """Return what is known of each dependency of a lock, or None when nobody could be asked."""
    words = [sys.executable, "-m", "pip_audit", "--disable-pip", "--no-deps", "--format", "json", "--requirement", str(lock)]
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=LIMIT_SECONDS)  # noqa: S603
        found: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
    except (subprocess.TimeoutExpired, ValueError, KeyError):
        return None
    return found


def judge(lock: str, found: list[dict[str, Any]] | None) -> tuple[bool, list[str]]:
    """Return whether no advisory names a dependency, and the lines that say what is known."""
    if found is None:
        return True, [f"{lock}: NOT AUDITED, the service of advisories could not be asked."]
    asked = [one for one in found if "vulns" in one]
    bad = [
        f"{lock}: {one['name']} {one['version']}: {known['id']}, mended in {', '.join(known['fix_versions']) or 'no version yet'}"
        for one in asked
        for known in one["vulns"]
    ]
    heading = f"{lock}: {len(asked)} of {len(found)} dependencies audited, {len(bad)} advisories."
    if len(asked) < len(found):
        heading += f" NOT AUDITED: {len(found) - len(asked)} that the service does not know."
    return not bad, [heading, *bad]


def main() -> int:
    """Audit the locks that are named."""
    sound = True
    for lock in sys.argv[1:]:
        fine, lines = judge(lock, ask(Path(lock)))
        print("\n".join(lines))
        sound = sound and fine
    return 0 if sound else 1


if __name__ == "__main__":
    sys.exit(main())
