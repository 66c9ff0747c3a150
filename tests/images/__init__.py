"""The tests of `fracturelab.images`."""

from __future__ import annotations

from fracturelab.errors import UnreadableImageError
from fracturelab.images import read_image


def check_image(source) -> str | None:
    """Why an image cannot be read, or None where it can."""
    try:
        read_image(source)
    except UnreadableImageError as error:
        return error.reason
    return None
