"""Errors that a person can mend: one clear line that says what is wrong, where, and what to do."""

from __future__ import annotations

from pathlib import Path


class FracturelabError(ValueError):
    """Something that was given or asked for cannot be used.

    The message is one line, written for the person at the keyboard. The command line prints it and exits with 2.
    """


class UnreadableImageError(FracturelabError):
    """An image file that cannot be decoded whole.

    Attributes:
        path: The file, as it was given.
        reason: Why it cannot be read, in a few words.
    """

    def __init__(self, path: str | Path, reason: str) -> None:
        self.path = str(path)
        self.reason = reason
        super().__init__(f"{self.path}: {reason}")
