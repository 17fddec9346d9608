"""Ports for what is started on this machine: free, and in the range that was asked for."""

from __future__ import annotations

import socket

import pytest

from relay import ports
from relay.errors import Misconfigured
from relay.ports import HOST, free_ports


def test_ports_are_distinct_free_and_in_the_range(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the smallest range allowed, with one port taken, all others can be had, and each can be listened on."""
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]
        first = min(port, 65535 - 100)
        monkeypatch.setenv("RELAY_PORTS", f"{first}-{first + 100}")
        found = free_ports(20)
        assert len(set(found)) == 20
        assert port not in found
        assert all(first <= one <= first + 100 for one in found)


def test_no_port_is_given_twice_while_there_are_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was chosen for something that does not listen yet is nobody else's; when all were given the choice begins anew."""
    monkeypatch.setenv("RELAY_PORTS", "32500-32600")
    monkeypatch.setattr(ports, "_given", set())
    found = [port for _ in range(9) for port in free_ports(10)]
    assert len(set(found)) == 90
    assert len(free_ports(50)) == 50
    with pytest.raises(Misconfigured, match="not 200 are free") as refused:
        free_ports(200)
    assert refused.value.code == "bad-port-range"


@pytest.mark.parametrize("given", ["", "15000", "a-b", "15000-15050", "20000-15000", "80-9000", "15000-70000", "-1-20000"])
def test_a_range_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    """A range must be two ports, the lower first, above the privileged ones, wide enough to choose from."""
    monkeypatch.setenv("RELAY_PORTS", given)
    with pytest.raises(Misconfigured) as refused:
        free_ports(1)
    assert refused.value.code == "bad-port-range"
