"""Types of arguments: text to value, or the sentence that says what was expected."""

from __future__ import annotations

import argparse

SOLVERS = "pbqp, milp, local, greedy, single:LAYOUT, family:NAME (its convolutions, else sum2d) or sum2d"


def positive(text: str) -> int:
    """An integer from 1 on."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value


def count(text: str) -> int:
    """An integer from 0 on."""
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError("must not be negative")
    return value


def size(text: str) -> int:
    """Bytes; units such as MiB may follow."""
    units = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
    number = text.lower().removesuffix("ib").removesuffix("b")
    factor = units.get(number[-1:], 1)
    try:
        value = int(float(number[:-1]) * factor) if factor > 1 else int(number)
    except (ValueError, OverflowError):
        value = -1
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size; give bytes, or e.g. 64MiB")
    return value


def error(text: str) -> float:
    """A relative error: finite, not negative."""
    value = _number(text)
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not an error; give e.g. 1e-5")
    return value


def part(text: str) -> float:
    """A part of something: from 0 to 1."""
    value = _number(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a part; give e.g. 0.01")
    return value


def budget(text: str) -> float:
    """Seconds: finite, not negative."""
    value = _number(text)
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a time in seconds")
    return value


def seed(text: str) -> int:
    """A seed of 63 bits."""
    value = int(text)
    if not 0 <= value < 1 << 63:
        raise argparse.ArgumentTypeError("must be between 0 and 2**63 - 1")
    return value


def seconds(text: str) -> float:
    """Seconds: finite, more than none."""
    value = _number(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a time in seconds")
    return value


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")


def pin(text: str) -> tuple[str, str]:
    """``NODE=VARIANT``."""
    # a label has "=" in its knobs, so the first one outside of brackets that is followed by a variant divides
    node, equals, variant = text.partition("[")[0].rpartition("=")
    if not equals or not node or not variant:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form NODE=VARIANT")
    return node, text[len(node) + 1 :]


def solver(text: str) -> str:
    """The name of a solver."""
    if text in ("pbqp", "milp", "local", "greedy", "sum2d", "exhaustive") or text.startswith(("single:", "family:")):
        return text
    raise argparse.ArgumentTypeError(f"choose {SOLVERS.partition(' (')[0]}, sum2d or exhaustive")


def shape(text: str) -> tuple[str, tuple[int, ...]]:
    """``NAME=1,3,224,224``."""
    name, equals, sizes = text.rpartition("=")
    try:
        if not equals or not name:
            raise ValueError
        return name, tuple(int(size) for size in sizes.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form NAME=1,3,224,224") from None


def conv(text: str) -> tuple[int, ...]:
    """The nine numbers of a convolution."""
    try:
        values = tuple(int(part) for part in text.split(","))
    except ValueError:
        values = ()
    if len(values) != 9:
        raise argparse.ArgumentTypeError("give nine numbers: C,H,W,K,R,S,stride,pad,groups")
    return values
