"""The sockets of doors."""

from __future__ import annotations

import socket

import pytest

from llm_mcp import listening
from llm_mcp.errors import SetupError


def test_a_socket_knows_that_it_is_tcps() -> None:
    """asyncio switches Nagle's waiting off for such ones only, and for those they accept."""
    with listening.bound("127.0.0.1:0", "X") as door:
        assert (door.proto, door.family, door.type) == (socket.IPPROTO_TCP, socket.AF_INET, socket.SOCK_STREAM)
        with pytest.raises(SetupError, match=r"X: cannot listen on 127\.0\.0\.1:[0-9]+: Address already in use"):
            listening.bound(listening.address(door), "X")
