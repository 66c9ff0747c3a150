"""Commands about run records: results, compare, presentation."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from fracturelab.cli.output import NOT_CLINICAL, columns, common, count, number
from fracturelab.errors import FracturelabError

_PLACE = re.compile(r"<!-- begin: ((results|compare|evidence|benchmarks) (\S+)) -->")
NO_RECORDS = "No run records in {} yet; make notebooks, fracturelab train and evaluate write them."


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

    compare = commands.add_parser(
        "compare",
        parents=[common(seed=False)],
        help="put all that has been run into one table: Markdown, CSV and a figure",
        description="One row a model: what it was trained on, its size and speed, and its scores where it was trained, "
        "chosen, tested, and elsewhere. What no record says stays empty.",
    )
    compare.add_argument("--reports", type=Path, metavar="DIR", help="reports folder to read (default reports)")
    compare.add_argument("--out", type=Path, metavar="DIR", help="where to write (default the reports folder)")
    compare.set_defaults(command=run_compare)

    presentation = commands.add_parser(
        "presentation",
        parents=[common(seed=False)],
        help="write slides about what runs have found, as a PowerPoint file",
        description="Slides for people who were not there. Every number comes from a run record.",
    )
    presentation.add_argument("--reports", type=Path, metavar="DIR", help="reports folder to read (default reports)")
    presentation.add_argument("--out", type=Path, metavar="FILE", help="default fracturelab.pptx in that folder")
    presentation.set_defaults(command=run_presentation)


def run_results(arguments: argparse.Namespace) -> tuple[object, str, int]:
    """Show the records, and fill a Markdown file from them."""
    from fracturelab.records import benchmarks_file, default_folder, read_benchmarks, read_records

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
        text = NO_RECORDS.format(folder)
    else:
        table = [["record", "tested on", "images", "ROC AUC", "95% interval"]]
        for row in rows:
            auc = row["metrics"].get("roc_auc") or {}
            between = "-" if auc.get("low") is None else f"{number(auc['low'])} to {number(auc['high'])}"
            table.append([row["record"], row["part"], str(row["n"] or ""), number(auc.get("value")), between])
        text = columns(table, align="llrrl")
    if arguments.readme is not None:
        filled = fill_readme(arguments.readme, records, read_benchmarks(benchmarks_file(folder.parent)))
        document["filled"] = filled
        text += f"\n{arguments.readme}: {count(len(filled), 'table')} filled ({', '.join(filled) or 'no markers'})."
    return document, text, 0


def fill_readme(
    path: Path, records: Sequence[Mapping[str, Any]], benchmarks: Mapping[str, Any] | None = None
) -> list[str]:
    """Fill the tables of a Markdown file from run records.

    A place `<!-- begin: results field-* -->` ... `<!-- end: results field-* -->` gets the table of the records whose
    names match the pattern, `<!-- begin: compare field-* -->` ... the one of everything about their models, and
    `<!-- begin: evidence * -->` ... what weights are worth with more and more training images;
    `<!-- begin: benchmarks * -->` gets the comparisons that `make bench` has run.

    Args:
        path: The Markdown file.
        records: The run records.
        benchmarks: What `read_benchmarks` gave.

    Returns:
        The patterns that were filled.

    Raises:
        FracturelabError: The file cannot be read or written.
    """
    from fracturelab.evidence import evidence_table
    from fracturelab.records import (
        benchmarks_table,
        compare_records,
        comparison_table,
        fill_markdown,
        results_table,
    )

    tables = {
        "results": results_table,
        "compare": lambda chosen: comparison_table(compare_records(chosen)),
        "evidence": evidence_table,
    }
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise FracturelabError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error
    patterns = []
    for marker, kind, pattern in _PLACE.findall(text):
        chosen = [record for record in records if fnmatchcase(record["name"], pattern)]
        if kind == "benchmarks":
            table = benchmarks_table(benchmarks or {}, names=pattern)
        else:
            table = tables[kind](chosen)
        fill_markdown(path, marker, table or "No run has been recorded yet.")
        patterns.append(pattern)
    return patterns


def run_compare(arguments: argparse.Namespace) -> tuple[object, str, int]:
    """Write one table of everything, and show the main part of it."""
    import matplotlib.pyplot as plt

    from fracturelab import plots, records
    from fracturelab.places import reports_folder
    from fracturelab.records.comparison import GUESSING, SHOWN

    reports = arguments.reports or reports_folder()
    out = arguments.out or reports
    rows = records.compare_records(records.read_records(reports / "results"))
    document: dict[str, Any] = {"reports": str(reports), "models": [row.to_dict() for row in rows], "files": []}
    if not rows:
        return document, NO_RECORDS.format(reports / "results"), 0
    files = [out / f"comparison.{suffix}" for suffix in ("md", "csv", "png")]
    records.write_text(files[0], records.comparison_table(rows))
    records.write_text(files[1], records.comparison_csv(rows))
    plt.switch_backend("Agg")
    figure = plots.score_forests(records.main_scores(rows), parts=SHOWN, references=GUESSING)
    plots.save_figure(figure, files[2])
    plt.close(figure)
    document["files"] = [str(file) for file in files]
    table = [["model", "trained on", "parameters", "ms", "score", *records.PARTS]]
    for row in rows:
        shown = [records.interval_text(found[0].metrics.get(row.score)) if found and row.score else ""
                 for found in row.scores.values()]  # fmt: skip
        parameters = "" if row.parameters is None else f"{row.parameters:,}"
        speed = "" if row.ms_per_image is None else f"{row.ms_per_image:.3g}"
        score = records.COLUMNS.get(row.score, row.score) if row.score else ""
        table.append([row.model, row.data or "", parameters, speed, score, *shown])
    text = columns(table, align="llrr")
    return document, f"{text}\n\n{', '.join(map(str, files))} written. {NOT_CLINICAL}", 0


def run_presentation(arguments: argparse.Namespace) -> tuple[object, str, int]:
    """Write the slides."""
    import tempfile

    from fracturelab.places import reports_folder
    from fracturelab.presentation import slides_of, write_deck
    from fracturelab.presentation.content import TITLE
    from fracturelab.records import read_records

    reports = arguments.reports or reports_folder()
    out = arguments.out or reports / "fracturelab.pptx"
    records = read_records(reports / "results")
    with tempfile.TemporaryDirectory(prefix="fracturelab-slides-") as work:
        slides = slides_of(records, figures=reports / "figures", work=Path(work))
        write_deck(slides, out, title=TITLE)
    document = {"file": str(out), "records": len(records), "slides": [slide.title for slide in slides]}
    return document, f"{out}: {count(len(slides), 'slide')} from {count(len(records), 'record')}. {NOT_CLINICAL}", 0
