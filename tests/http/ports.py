"""Ports that stand in the manuals of the old servers, and so in tests of their lines."""

import socket

import pytest


def need(*ports: int) -> None:
    """Fail, saying so, if one of these ports is taken by another program."""
    for port in ports:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                pytest.fail(f"port {port} is taken by another program; this test needs it")
