"""The error that reaches a user: what was wrong, where, and what to do next; never a traceback."""

from __future__ import annotations


class UserError(Exception):
    """A failure the user can act on. The command line prints it on one line and exits with 2."""

    def __init__(self, what: str, remedy: str = "") -> None:
        super().__init__(f"{what}; {remedy}" if remedy else what)
