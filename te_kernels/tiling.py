"""Cutting an extent into parts."""

from __future__ import annotations


def cdiv(a: int, b: int) -> int:
    """Ceiling division."""
    return -(-a // b)


def divisors(total: int, most: int) -> list[int]:
    """Divisors of ``total`` up to ``most``, ascending."""
    return [d for d in range(1, min(total, most) + 1) if total % d == 0]


def even_share(total: int, limit: int) -> int:
    """The part <= ``limit`` that divides ``total`` if there is one not much smaller, else the evenest split."""
    near = [d for d in divisors(total, limit) if d >= max(1, limit // 2)]
    return near[-1] if near else cdiv(total, cdiv(total, limit))
