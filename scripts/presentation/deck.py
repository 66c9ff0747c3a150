"""Slides to a PowerPoint file: where things stand, how they look. What they say is in `content`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fracturelab.errors import FracturelabError
from fracturelab.system.files import whole_file
from scripts.presentation.fitting import fitting_size, needed, text_width

if TYPE_CHECKING:
    from scripts.presentation.content import Slide

WIDTH, HEIGHT = 13.333, 7.5  # inches, 16:9
FONT = "Arial"
FOOTER = "fracturelab · for teaching and research · not for clinical use"
SYNTHETIC = "Synthetic X-rays: no patient, no medical evidence"
_MARGIN, _TOP, _BOTTOM = 0.6, 1.55, 6.8
_GAP = 0.35
_SHARE = 0.44  # of the width for text beside a picture
_ROW = 0.36  # least height of a table's row
_WIDE = 1.9  # width to height from which a picture stands below the text
_INK, _BLUE, _ORANGE, _GREY, _PALE = "222222", "0072B2", "B24A00", "666666", "EEF4F9"

Box = tuple[float, float, float, float]
"""Left, top, width, height in inches."""


def write_deck(slides: Sequence[Slide], path: str | Path, *, title: str) -> Path:
    """Write slides as a PowerPoint file, whole or not at all.

    Args:
        slides: From `slides_of`.
        path: The file, ending in `.pptx`; its folders are made.
        title: Of the file.

    Returns:
        The file.

    Raises:
        FracturelabError: The name does not end in `.pptx`, the place cannot be written, or a text does not fit.
    """
    from pptx import Presentation

    path = Path(path)
    if path.suffix.lower() != ".pptx":
        raise FracturelabError(f"expected a file name ending in .pptx. Received: {path.name}")
    deck = Presentation()
    deck.slide_width, deck.slide_height = _inches(WIDTH), _inches(HEIGHT)
    deck.core_properties.title, deck.core_properties.author = title, "fracturelab"
    for number, slide in enumerate(slides, start=1):
        _draw(deck, slide, number)
    with whole_file(path) as part:
        deck.save(str(part))
    return path


def _draw(deck: Any, slide: Slide, number: int) -> None:
    page = deck.slides.add_slide(deck.slide_layouts[5])  # a title and nothing else
    first = number == 1
    _title(
        page,
        slide.title,
        (_MARGIN, 2.0, WIDTH - 2 * _MARGIN, 1.5) if first else (_MARGIN, 0.45, WIDTH - 2 * _MARGIN, 0.9),
        largest=44 if first else 30,
    )
    top = 3.7 if first else _TOP
    area: Box = (_MARGIN, top, WIDTH - 2 * _MARGIN, _BOTTOM - top)
    _body(page, slide, area, bullets=not first and len(slide.points) > 1)
    _text(page, [FOOTER], (_MARGIN, 6.98, 7.0, 0.34), largest=11, colour=_GREY, name="footer")
    if slide.synthetic:
        _text(page, [SYNTHETIC], (7.7, 6.98, 4.3, 0.34), largest=11, colour=_ORANGE, name="synthetic", bold=True)
    _text(
        page,
        [str(number)],
        (WIDTH - _MARGIN - 0.6, 6.98, 0.6, 0.34),
        largest=11,
        colour=_GREY,
        name="number",
        right=True,
    )
    names = ", ".join(slide.records)
    page.notes_slide.notes_text_frame.text = f"Records: {names}." if names else "No number on this slide."


def _body(page: Any, slide: Slide, area: Box, *, bullets: bool) -> None:
    """Text, and on its right a picture, below it a wide one or a table."""
    left, top, width, height = area
    wide = slide.picture is not None and _aspect(slide.picture) > _WIDE
    if slide.picture is not None and not wide:
        share = _SHARE if slide.points else 0.0
        if slide.points:
            box = (left, top, share * width - _GAP, height)
            _text(page, slide.points, box, largest=20, bullets=bullets, name="points")
        _picture(page, slide.picture, (left + share * width, top, (1 - share) * width, height), about=slide.about)
        return
    if slide.points:
        alone = slide.picture is None and not slide.table
        most = height if alone else min(height / 2, height - _ROW * len(slide.table) - _GAP)
        used = _text(
            page, slide.points, (left, top, width, most), largest=24 if alone else 20, bullets=bullets, name="points"
        )
        top, height = top + used + _GAP, height - used - _GAP
    if slide.picture is not None:
        _picture(page, slide.picture, (left, top, width, height), about=slide.about)
    elif slide.table:
        _table(page, slide.table, (left, top, width, min(height, 0.5 * len(slide.table))))


def _aspect(picture: Path) -> float:
    from PIL import Image

    with Image.open(picture) as opened:
        return opened.width / opened.height


def _title(page: Any, text: str, box: Box, *, largest: int) -> None:
    shape = page.shapes.title
    shape.left, shape.top, shape.width, shape.height = (_inches(value) for value in box)
    _fill(shape.text_frame, [text], box, largest=largest, colour=_BLUE, bold=True)


def _text(
    page: Any,
    paragraphs: Sequence[str],
    box: Box,
    *,
    largest: int,
    name: str,
    colour: str = _INK,
    bold: bool = False,
    bullets: bool = False,
    right: bool = False,
) -> float:
    """Write paragraphs into a box, as large as they fit, and return the height in inches that they take."""
    shape = page.shapes.add_textbox(*(_inches(value) for value in box))
    shape.name = name
    shown = [f"•  {text}" for text in paragraphs] if bullets else list(paragraphs)
    height = _fill(shape.text_frame, shown, box, largest=largest, colour=colour, bold=bold, right=right)
    shape.height = _inches(height)
    return height


def _fill(
    frame: Any, paragraphs: Sequence[str], box: Box, *, largest: int, colour: str, bold: bool, right: bool = False
) -> float:
    from pptx.dml.color import RGBColor
    from pptx.enum.text import MSO_ANCHOR, MSO_AUTO_SIZE, PP_ALIGN
    from pptx.util import Pt

    size = fitting_size(paragraphs, width=box[2] - 0.1, height=box[3] - 0.05, largest=largest, bold=bold)
    frame.word_wrap, frame.auto_size, frame.vertical_anchor = True, MSO_AUTO_SIZE.NONE, MSO_ANCHOR.TOP
    frame.margin_left = frame.margin_right = _inches(0.05)
    frame.margin_top = frame.margin_bottom = _inches(0.02)
    for number, text in enumerate(paragraphs):
        paragraph = frame.paragraphs[0] if number == 0 else frame.add_paragraph()
        paragraph.alignment = PP_ALIGN.RIGHT if right else PP_ALIGN.LEFT
        paragraph.space_after = Pt(round(0.3 * size))
        run = paragraph.add_run()
        run.text = text
        run.font.size, run.font.bold, run.font.name = Pt(size), bold, FONT
        run.font.color.rgb = RGBColor.from_string(colour)
    return min(box[3], needed(paragraphs, width=box[2] - 0.1, size=size, bold=bold)[1] + 0.06)


def _picture(page: Any, picture: Path, box: Box, *, about: str) -> None:
    """The picture as large as its box allows, in its middle."""
    from PIL import Image

    with Image.open(picture) as opened:
        across, down = opened.size
    scale = min(box[2] / across, box[3] / down)
    width, height = across * scale, down * scale
    left, top = box[0] + (box[2] - width) / 2, box[1] + (box[3] - height) / 2
    shape = page.shapes.add_picture(str(picture), *(_inches(value) for value in (left, top, width, height)))
    shape.name = "picture"
    shape._element.nvPicPr.cNvPr.set("descr", about)


def _table(page: Any, rows: Sequence[Sequence[str]], box: Box) -> None:
    """A table whose columns are as wide as their texts need, in a size at which every cell is one line."""
    from pptx.dml.color import RGBColor
    from pptx.enum.text import MSO_ANCHOR, PP_ALIGN
    from pptx.util import Pt

    columns = list(zip(*rows, strict=True))
    size = next(
        (
            size
            for size in range(16, 7, -1)
            if sum(_widths(columns, size)) <= box[2] and 1.45 * size / 72 * len(rows) <= box[3]
        ),
        None,
    )
    if size is None:
        raise FracturelabError(
            f"expected a table that fits a slide. Received: {len(rows)} rows, {len(columns)} columns"
        )
    shape = page.shapes.add_table(len(rows), len(columns), *(_inches(value) for value in box))
    shape.name = "table"
    table = shape.table
    widths = _widths(columns, size)
    spare = (box[2] - sum(widths)) / len(widths)
    for column, width in zip(table.columns, widths, strict=True):
        column.width = _inches(width + spare)
    for number, (row, texts) in enumerate(zip(table.rows, rows, strict=True)):
        row.height = _inches(box[3] / len(rows))
        for place, (cell, text) in enumerate(zip(row.cells, texts, strict=True)):
            cell.fill.solid()
            cell.fill.fore_color.rgb = RGBColor.from_string(_BLUE if number == 0 else _PALE if number % 2 else "FFFFFF")
            cell.margin_left = cell.margin_right = _inches(0.08)
            cell.margin_top = cell.margin_bottom = _inches(0.02)
            cell.vertical_anchor = MSO_ANCHOR.MIDDLE
            paragraph = cell.text_frame.paragraphs[0]
            paragraph.alignment = PP_ALIGN.LEFT if place == 0 else PP_ALIGN.CENTER
            run = paragraph.add_run()
            run.text = text
            run.font.size, run.font.bold, run.font.name = Pt(size), number == 0, FONT
            run.font.color.rgb = RGBColor.from_string("FFFFFF" if number == 0 else _INK)


def _widths(columns: Sequence[Sequence[str]], size: int) -> list[float]:
    return [
        max(text_width(text, size=size, bold=row == 0) for row, text in enumerate(column)) + 0.2 for column in columns
    ]


def _inches(value: float) -> int:
    from pptx.util import Inches

    return Inches(value)
