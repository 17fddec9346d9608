"""The network that is attacked: a member who attacks, a member who is attacked, a third."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from relay.rabbit import PrivateBroker
from tests.attacks.forge import CENTRES
from tests.live import Live, private_network


@pytest.fixture(scope="package")
async def live(broker: PrivateBroker, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Live]:
    """Run three centres that wait less than usual before they ask."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RELAY_REPAIR__MARK_FIRST", "0.2")
        patch.setenv("RELAY_REPAIR__GAP", "0.3")
        patch.setenv("RELAY_REPAIR__HEARTBEAT_SECONDS", "1")
        nodes = Live(private_network(tmp_path_factory.mktemp("attacks") / "network", broker, "attacks", CENTRES), broker)
        await nodes.start(*CENTRES)
    yield nodes
    await nodes.close()
