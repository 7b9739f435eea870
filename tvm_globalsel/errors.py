"""The error that reaches a user: what was wrong, where, and what to do next; never a traceback."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

#: Exit codes of the command line.
EXIT_FAILED, EXIT_USER_ERROR, EXIT_INTERRUPTED = 1, 2, 130


class UserError(Exception):
    """A failure the user can act on. The command line prints it on one line and exits with 2."""

    def __init__(self, what: str, remedy: str = "") -> None:
        super().__init__(f"{what}; {remedy}" if remedy else what)


@contextmanager
def located(where: str) -> Iterator[None]:
    """Errors from inside name the place too: a file, for example ("" adds nothing)."""
    try:
        yield
    except UserError as error:
        if not where:
            raise
        raise UserError(f"{where}: {error}") from error
