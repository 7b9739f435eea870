"""Names of what is not stored: the choice to leave an operator to its only reader, and the layouts that it makes."""

from __future__ import annotations

#: Variant and family of the choice.
DEFERRED = "deferred"
_PREFIX = f"{DEFERRED}:"


def deferred_layout(layout: str) -> str:
    """The layout of a value that was not computed, for what it is computed of lies in ``layout``."""
    return _PREFIX + layout


def source_layout(layout: str) -> str | None:
    """The inverse of :func:`deferred_layout`; None for a layout in which values are stored."""
    return layout.removeprefix(_PREFIX) if layout.startswith(_PREFIX) else None


def shown(layout: str) -> str:
    """For people: in brackets where nothing is stored."""
    source = source_layout(layout)
    return layout if source is None else f"({source})"
