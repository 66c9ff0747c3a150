"""Commands about run records: results."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from fracturelab.cli.output import columns, common, count, number
from fracturelab.errors import FracturelabError

_PLACE = re.compile(r"<!-- begin: (results (\S+)) -->")


def add_commands(commands: Any) -> None:
    """Add the commands to the parser."""
    results = commands.add_parser(
        "results",
        parents=[common(seed=False)],
        help="show what runs have found, and fill README's table from it",
        description="Show the run records as a table; with --readme, write it between that file's markers.",
    )
    results.add_argument("--folder", type=Path, metavar="DIR", help="where the records lie (default reports/results)")
    results.add_argument("--readme", type=Path, metavar="FILE", help="Markdown file to fill")
    results.set_defaults(command=run_results)


def run_results(arguments: argparse.Namespace) -> tuple[object, str, int]:
    """Show the records, and fill a Markdown file from them."""
    from fracturelab.records import default_folder, read_records

    folder = arguments.folder or default_folder()
    records = read_records(folder)
    rows = []
    for record in records:
        tested = record["results"].get("evaluations") or {"": record["results"]}
        for part, result in tested.items():
            metrics = result.get("metrics") or {}
            if metrics:
                rows.append({"record": record["name"], "part": part, "n": result.get("n"), "metrics": metrics})
    document: dict[str, Any] = {"folder": str(folder), "records": len(records), "rows": rows}
    if not records:
        text = f"No run records in {folder} yet; make notebooks, fracturelab train and evaluate write them."
    else:
        table = [["record", "tested on", "images", "ROC AUC", "95% interval"]]
        for row in rows:
            auc = row["metrics"].get("roc_auc") or {}
            between = "-" if auc.get("low") is None else f"{number(auc['low'])} to {number(auc['high'])}"
            table.append([row["record"], row["part"], str(row["n"] or ""), number(auc.get("value")), between])
        text = columns(table, align="llrrl")
    if arguments.readme is not None:
        filled = fill_readme(arguments.readme, records)
        document["filled"] = filled
        text += f"\n{arguments.readme}: {count(len(filled), 'table')} filled ({', '.join(filled) or 'no markers'})."
    return document, text, 0


def fill_readme(path: Path, records: Sequence[Mapping[str, Any]]) -> list[str]:
    """Fill the tables of a Markdown file from run records.

    A place `<!-- begin: results field-* -->` ... `<!-- end: results field-* -->` gets the table of the records whose
    names match the pattern.

    Returns:
        The patterns that were filled.

    Raises:
        FracturelabError: The file cannot be read or written.
    """
    from fracturelab.records import fill_markdown, results_table

    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise FracturelabError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error
    patterns = []
    for marker, pattern in _PLACE.findall(text):
        table = results_table(record for record in records if fnmatchcase(record["name"], pattern))
        fill_markdown(path, marker, table or "No run has been recorded yet.")
        patterns.append(pattern)
    return patterns
