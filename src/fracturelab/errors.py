"""Errors that a person can mend: one clear line that says what is wrong, where, and what to do."""

from __future__ import annotations

from pathlib import Path


class FracturelabError(ValueError):
    """Something that was given or asked for cannot be used.

    The message is one line, written for the person at the keyboard. The command line prints it and exits with 2. What
    cannot be printed (a file's name may hold a line break, or bytes that are no text) is written as an escape.
    """

    def __init__(self, message: object) -> None:
        super().__init__("".join(_printable(character) for character in str(message)))


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

    def __reduce__(self) -> tuple[type[UnreadableImageError], tuple[str, str]]:
        """Travel between processes with both attributes."""
        return type(self), (self.path, self.reason)


def _printable(character: str) -> str:
    return character if character.isprintable() else character.encode("unicode_escape").decode()
