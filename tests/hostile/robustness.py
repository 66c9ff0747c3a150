"""Write `reports/robustness.md` from what tests said happened to each row of the table in `cases.py`."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from pathlib import Path

from tests.hostile import cases as hostile

REPORT = Path(__file__).resolve().parents[2] / "reports" / "robustness.md"
HEAD = """# Hard to break: what comes in, what must happen, what happened

`make test` writes all but the last two tables, and only when every one of their rows ran and passed. `make test-long`
and `make test-machines` fill those two, a row at a time. `tests/hostile/cases.py` is the table; the tests beside it
fill it. Files go through five doors: the audit, preparation for training, prediction from Python, the command line,
and the app's reading of uploads. Where one reason is given, all five gave it.
"""
NOT_YET = "not run yet"


def lines_of(text: str) -> dict[str, str]:
    """What an earlier report said happened, by the row's input."""
    found = {}
    for line in text.splitlines():
        cells = line.split(" | ")
        if line.startswith("| ") and len(cells) == 3:
            found[cells[0].removeprefix("| ")] = cells[2].removesuffix(" |")
    return found


def report(answers: Mapping[str, str], earlier: str = "") -> str | None:
    """The whole report, or None where it must stay as it is.

    Args:
        answers: What happened, by the row's key.
        earlier: The report as it is; the rows of its last two tables stay where none ran.

    Returns:
        The text; None where a row of the other tables is missing, unless only rows of the last two ran.
    """
    long = {row.key for row in hostile.ROWS if row.section in (hostile.LONG, hostile.MACHINES)}
    short = {row.key for row in hostile.ROWS} - long
    before = lines_of(earlier)
    only_long = bool(answers) and answers.keys() <= long and bool(before)
    if not short <= answers.keys() and not only_long:
        return None
    parts = [HEAD]
    for section in hostile.SECTIONS:
        parts.append(f"## {section}\n\n| Input | What must happen | What happened |\n| --- | --- | --- |")
        for row in hostile.ROWS:
            if row.section == section:
                given = cell(row.given)
                happened = cell(answers[row.key]) if row.key in answers else before.get(given, NOT_YET)
                parts.append(f"| {given} | {cell(row.must)} | {happened} |")
        parts.append("")
    return "\n".join(parts)


def cell(text: str) -> str:
    """Text that cannot leave its cell."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def write(answers: Mapping[str, str], path: Path = REPORT) -> bool:
    """Write the report if it can be written from these answers and says something new; say whether it was."""
    earlier = path.read_text(encoding="utf-8") if path.is_file() else ""
    text = report(answers, earlier)
    if text is None or text == earlier:
        return False
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)
    return True
