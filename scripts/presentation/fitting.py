"""Measures the largest font size at which a text fits its box."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from fracturelab.errors import FracturelabError

LINE = 1.2
"""Height of a line in units of the font size."""
PARAGRAPH = 0.35
"""Space after a paragraph in units of the font size."""
SMALLEST = 9
"""Smallest size in points; smaller text cannot be read from the back of a room."""


@lru_cache(maxsize=64)
def _font(size: int, bold: bool) -> Any:
    """The font DejaVu Sans of matplotlib. It is wider than Arial and Calibri, so text that fits in it fits in them."""
    import matplotlib
    from PIL import ImageFont

    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(str(Path(matplotlib.get_data_path(), "fonts", "ttf", name)), size)


def text_width(text: str, *, size: int, bold: bool = False) -> float:
    """Width of a line of text in inches."""
    return _font(size, bold).getlength(text) / 72


def wrapped(text: str, *, width: float, size: int, bold: bool = False) -> list[str]:
    """Break a paragraph at spaces into lines of at most `width` inches. A longer word gets a line of its own."""
    lines: list[str] = []
    for word in text.split(" "):
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and text_width(longer, size=size, bold=bold) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def needed(paragraphs: Sequence[str], *, width: float, size: int, bold: bool = False) -> tuple[float, float]:
    """Width of the widest line and height of all, in inches, of paragraphs wrapped at `width`."""
    lines = [line for text in paragraphs for line in wrapped(text, width=width, size=size, bold=bold)]
    widest = max((text_width(line, size=size, bold=bold) for line in lines), default=0.0)
    return widest, (len(lines) * LINE + len(paragraphs) * PARAGRAPH) * size / 72


def fitting_size(paragraphs: Sequence[str], *, width: float, height: float, largest: int, bold: bool = False) -> int:
    """The largest font size, in points, at which paragraphs fit a box.

    Args:
        paragraphs: The text.
        width: Of the box, in inches, without its margins.
        height: The same.
        largest: Where to start.
        bold: Whether the text is bold.

    Raises:
        FracturelabError: It does not fit even at `SMALLEST`.
    """
    for size in range(largest, SMALLEST - 1, -1):
        wide, high = needed(paragraphs, width=width, size=size, bold=bold)
        if wide <= width and high <= height:
            return size
    raise FracturelabError(
        f"expected text that fits {width:.1f} x {height:.1f} inches. Received: {sum(map(len, paragraphs))} characters, "
        f"starting with {paragraphs[0][:40]!r}"
    )
