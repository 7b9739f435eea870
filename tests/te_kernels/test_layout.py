"""Layouts: packing, indices and free transforms against brute force."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from te_kernels.layout import Layout, same_bytes

NAMES = st.sampled_from(["NCHW", "NHWC", "NCHW1c", "NCHW2c", "NCHW3c", "NCHW4c", "NCHW8c", "NCHW16c"])
SHAPES = st.tuples(st.integers(1, 3), st.integers(1, 20), st.integers(1, 4), st.integers(1, 4))


def _numbered(shape: tuple[int, ...]) -> np.ndarray:
    return np.arange(1, 1 + np.prod(shape), dtype=np.float32).reshape(shape)


@given(NAMES, SHAPES)
@settings(deadline=None)
def test_unpack_inverts_pack(name: str, shape: tuple[int, ...]) -> None:
    layout, x = Layout(name), _numbered(shape)
    stored = layout.pack(x, fill=-1.0)
    assert stored.shape == layout.physical_shape(shape)
    np.testing.assert_array_equal(layout.unpack(stored, shape), x)
    assert (stored == -1).sum() == stored.size - x.size


@given(NAMES, SHAPES)
@settings(deadline=None)
def test_indices_agree_with_pack(name: str, shape: tuple[int, ...]) -> None:
    layout, x = Layout(name), _numbered(shape)
    stored = layout.pack(x)
    for index in itertools.product(*map(range, shape)):
        where = layout.physical_index(*index)
        assert stored[where] == x[index]
        assert layout.logical_index(*where) == index


@given(NAMES, NAMES, SHAPES)
@settings(deadline=None)
def test_same_bytes_against_brute_force(a: str, b: str, shape: tuple[int, ...]) -> None:
    x = _numbered(shape)
    flat_a, flat_b = Layout(a).pack(x).ravel(), Layout(b).pack(x).ravel()
    equal = flat_a.shape == flat_b.shape and bool((flat_a == flat_b).all())
    padded = any(Layout(name).block and shape[1] % Layout(name).block for name in (a, b))
    if same_bytes(shape, Layout(a), Layout(b)):
        assert equal
    elif not padded:
        assert not equal, f"{a} and {b} store {shape} alike, but that is called a transform"


@given(st.lists(st.integers(1, 9), min_size=1, max_size=6).filter(lambda s: len(s) != 4).map(tuple))
@settings(deadline=None)
def test_plain(shape: tuple[int, ...]) -> None:
    layout, x = Layout("plain"), _numbered(shape)
    assert layout.reason_cannot_hold(shape) is None
    assert layout.physical_shape(shape) == shape
    np.testing.assert_array_equal(layout.unpack(layout.pack(x), shape), x)
    for name in ("NCHW", "NHWC", "NCHW8c"):
        assert "rank" in (Layout(name).reason_cannot_hold(shape) or "")


def test_plain_does_not_hold_rank_4() -> None:
    assert "NCHW" in (Layout("plain").reason_cannot_hold((1, 2, 3, 4)) or "")


@given(st.text(max_size=12))
@settings(deadline=None)
def test_only_known_names(name: str) -> None:
    known = name in ("NCHW", "NHWC", "plain")
    if not known:
        with pytest.raises(ValueError, match="unknown layout"):
            Layout(name)


@pytest.mark.parametrize("name", ["NCHW0c", "NCHW16", "NCHW-4c", "nchw", "NCHW16c\n", "NCHW1000c", " NCHW", ""])
def test_hostile_names(name: str) -> None:
    with pytest.raises(ValueError, match="unknown layout"):
        Layout(name)
