"""CUDA graphs and events through the runtime library that TVM loads: capture what kernels are started, time replays."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import tvm_ffi

_NON_BLOCKING, _RELAXED = 1, 2


class CudaError(RuntimeError):
    """A call of the CUDA runtime that failed."""


class CudaGraph:
    """What ``body`` starts on the device, captured once and replayed without the host's part.

    ``body`` is run once before the capture, so that modules are loaded and nothing is allocated while capturing.
    """

    def __init__(self, device: Any, body: Callable[[], None]) -> None:
        self._library = ctypes.CDLL("libcudart.so.13")
        self._library.cudaGetErrorString.restype = ctypes.c_char_p
        self._stream, graph, self._exec = ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_void_p()
        self._events = (ctypes.c_void_p(), ctypes.c_void_p())
        self._call("cudaStreamCreateWithFlags", ctypes.byref(self._stream), ctypes.c_uint(_NON_BLOCKING))
        for event in self._events:
            self._call("cudaEventCreate", ctypes.byref(event))
        body()
        device.sync()
        with tvm_ffi.use_raw_stream(tvm_ffi.device("cuda", device.index), self._stream.value or 0):
            self._call("cudaStreamBeginCapture", self._stream, ctypes.c_int(_RELAXED))
            try:
                body()
            finally:
                self._call("cudaStreamEndCapture", self._stream, ctypes.byref(graph))
        self._call("cudaGraphInstantiate", ctypes.byref(self._exec), graph, ctypes.c_ulonglong(0))
        self._call("cudaGraphDestroy", graph)

    def replay(self) -> None:
        """Start it; returns at once."""
        self._call("cudaGraphLaunch", self._exec, self._stream)

    def seconds(self) -> float:
        """Seconds of one replay between two events, waited for."""
        first, last = self._events
        taken_ms = ctypes.c_float()
        self._call("cudaEventRecord", first, self._stream)
        self.replay()
        self._call("cudaEventRecord", last, self._stream)
        self._call("cudaEventSynchronize", last)
        self._call("cudaEventElapsedTime", ctypes.byref(taken_ms), first, last)
        return taken_ms.value * 1e-3

    def close(self) -> None:
        """Free it."""
        self._call("cudaStreamSynchronize", self._stream)
        self._call("cudaGraphExecDestroy", self._exec)
        for event in self._events:
            self._call("cudaEventDestroy", event)
        self._call("cudaStreamDestroy", self._stream)

    def _call(self, name: str, *args: Any) -> None:
        code = int(getattr(self._library, name)(*args))
        if code:
            raise CudaError(f"{name}: {self._library.cudaGetErrorString(code).decode()}")
