"""TVM's RPC tracker: which devices of a kind it knows, and a session on one of them."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import Any

from tvm import rpc

from tvm_globalsel.errors import UserError

_CONNECT_S = 5.0


@dataclass(frozen=True)
class Tracker:
    """Address of the tracker, and the key under which the devices to measure on have registered."""

    host: str
    port: int
    key: str

    def servers(self) -> int:
        """How many devices have registered; raises :class:`UserError` when the tracker cannot be reached."""
        try:
            with socket.create_connection((self.host, self.port), _CONNECT_S):
                pass  # TVM's client would try for a minute
            known = rpc.connect_tracker(self.host, self.port).summary()["server_info"]
        except (OSError, RuntimeError) as error:
            raise UserError(
                f"--rpc-tracker {self.host}:{self.port}: no tracker answers ({error})",
                "start one with python -m tvm.exec.rpc_tracker, or correct the address",
            ) from error
        return sum(str(server.get("key")) == f"server:{self.key}" for server in known)

    def session(self, timeout_s: int) -> Any:
        """A session on a device that is free; waits for one. The device's server ends it after ``timeout_s``."""
        return rpc.connect_tracker(self.host, self.port).request(self.key, session_timeout=timeout_s)


def parse_tracker(address: str, key: str | None) -> Tracker:
    """``HOST:PORT`` and the key; raises :class:`UserError` when they are not that."""
    host, _, port = address.strip().rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise UserError(f"--rpc-tracker {address!r} is not of the form HOST:PORT", "e.g. --rpc-tracker 10.0.0.5:9190")
    if not key:
        raise UserError("--rpc-tracker needs a key", "give the devices' key with --rpc-key")
    return Tracker(host.strip("[]"), int(port), key)
