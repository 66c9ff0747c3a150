"""Documents made of run records: the tables of Markdown files, and slides."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from benchmarks.results import benchmarks_file, benchmarks_table, read_benchmarks
from fracturelab.cli import options
from fracturelab.cli.output import NOT_CLINICAL, count
from fracturelab.errors import FracturelabError
from scripts.evidence import evidence_table, pooling_table
from scripts.front_page import headline_table, seeds_table, traps_table
from scripts.small import heads_table, levers_table
from scripts.tables import fill_markdown, results_table
from scripts.turned_copies import turned_table

FRONT = Path(__file__).resolve().parents[1] / "docs" / "pictures" / "front.png"
_PLACE = re.compile(
    r"<!-- begin: ((results|compare|evidence|pooling|heads|levers|benchmarks|headline|traps|turned|seeds) (\S+)) -->"
)


def add_commands(commands: Any) -> None:
    """Add the commands to the parser."""
    fill = options.add_command(commands, "fill", run_fill)
    fill.add_argument("files", nargs="+", type=Path, metavar="FILE", help="Markdown files with markers")
    fill.add_argument("--folder", type=Path, metavar="DIR", help="where the records lie (default reports/results)")

    presentation = options.add_command(commands, "presentation", run_presentation)
    presentation.add_argument("--reports", type=Path, metavar="DIR", help="reports folder to read (default reports)")
    presentation.add_argument("--out", type=Path, metavar="FILE", help="default fracturelab.pptx in that folder")


def run_fill(arguments: argparse.Namespace) -> tuple[object, str, int]:
    """Fill the tables of Markdown files from the run records.

    Write the tables of run records between the markers of Markdown files.
    """
    from fracturelab.records import default_folder, read_records

    folder = arguments.folder or default_folder()
    records, benchmarks = read_records(folder), read_benchmarks(benchmarks_file(folder.parent))
    filled = {str(path): fill_tables(path, records, benchmarks) for path in arguments.files}
    lines = [
        f"{path}: {count(len(found), 'table')} filled ({', '.join(found) or 'no markers'})."
        for path, found in filled.items()
    ]
    return {"folder": str(folder), "filled": filled}, "\n".join(lines), 0


def fill_tables(
    path: Path, records: Sequence[Mapping[str, Any]], benchmarks: Mapping[str, Any] | None = None
) -> list[str]:
    """Fill the tables of a Markdown file from run records.

    A place `<!-- begin: results field-* -->` ... `<!-- end: results field-* -->` gets the table of the records whose
    names match the pattern, or one of several with bars between. Other kinds of tables are compare (everything about
    their models), evidence (what weights are worth with more and more training images), pooling (what maxima add to
    means), heads and levers (the shipped model's parts, and what each step towards it gave), seeds (scores over seeds),
    headline and traps (the tables of the first page), turned (how many turned copies the audit finds), and benchmarks
    (what `make bench` has run).

    Args:
        path: The Markdown file.
        records: The run records.
        benchmarks: What `read_benchmarks` gave.

    Returns:
        The patterns that were filled.

    Raises:
        FracturelabError: The file cannot be read or written.
    """
    from fracturelab.records import compare_records, comparison_table

    tables = {
        "results": results_table,
        "compare": lambda chosen: comparison_table(compare_records(chosen)),
        "evidence": evidence_table,
        "pooling": pooling_table,
        "heads": heads_table,
        "levers": levers_table,
        "headline": headline_table,
        "traps": traps_table,
        "seeds": seeds_table,
        "turned": turned_table,
    }
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise FracturelabError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error
    patterns = []
    for marker, kind, pattern in _PLACE.findall(text):
        chosen = [record for record in records if any(fnmatchcase(record["name"], p) for p in pattern.split("|"))]
        table = benchmarks_table(benchmarks or {}, names=pattern) if kind == "benchmarks" else tables[kind](chosen)
        fill_markdown(path, marker, table or "No run has been recorded yet.")
        patterns.append(pattern)
    return patterns


def run_presentation(arguments: argparse.Namespace) -> tuple[object, str, int]:
    """Write slides about what runs have found, as a PowerPoint file.

    Slides for people who were not there. Every number comes from a run record.
    """
    from fracturelab.records import read_records
    from fracturelab.system.folders import reports_folder
    from scripts.presentation import slides_of, write_deck
    from scripts.presentation.content import TITLE

    reports = arguments.reports or reports_folder()
    out = arguments.out or reports / "fracturelab.pptx"
    records = read_records(reports / "results")
    slides = slides_of(records, front=FRONT)
    write_deck(slides, out, title=TITLE)
    document = {"file": str(out), "records": len(records), "slides": [slide.title for slide in slides]}
    return document, f"{out}: {count(len(slides), 'slide')} from {count(len(records), 'record')}. {NOT_CLINICAL}", 0
