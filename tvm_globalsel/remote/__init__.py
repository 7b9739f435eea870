"""Measuring on devices behind TVM's own RPC tracker, whose servers need TVM's runtime and nothing else.

What is local when measuring here (``worker.py``) is divided so: schedules, code generation and linking, arguments, the
float64 oracle and the comparison stay on the host; the library that is uploaded holds the kernels and, generated too,
all that has to happen beside them on the device (``library.py``): cache preparation, clocks, the probe, and a child
process for the first run, so that a kernel that crashes or hangs costs no server. Devices must run Linux on 64 bits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tvm_globalsel.remote.devices import RemoteDevices


def remote_devices(address: str | None, key: str | None) -> RemoteDevices | None:
    """The devices with ``key`` behind the tracker at ``address`` (``HOST:PORT``); None without an address.

    Raises :class:`UserError` when the tracker does not answer or knows no such device.
    """
    from tvm_globalsel.errors import UserError

    if address is None:
        if key is not None:
            raise UserError("--rpc-key without a tracker", "give its address with --rpc-tracker HOST:PORT")
        return None
    from tvm_globalsel.remote.devices import RemoteDevices
    from tvm_globalsel.remote.tracker import parse_tracker

    return RemoteDevices(parse_tracker(address, key))
