"""Passwords of files, in this process's memory and nowhere else: what dies with it is asked for again."""

from __future__ import annotations


class Passwords:
    """Generation -> the password that was given for its file, until it was read."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}

    def keep(self, generation_id: str, password: str) -> None:
        """Until `forget`, or the end of this process."""
        self._known[generation_id] = password

    def of(self, generation_id: str | None) -> str | None:
        """The password for a generation; None where none was given, or to another process."""
        return self._known.get(generation_id or "")

    def forget(self, generation_id: str | None) -> None:
        """It has been read, or never will be."""
        self._known.pop(generation_id or "", None)

    def __repr__(self) -> str:
        return f"Passwords({len(self._known)})"
