"""Commands about run records: results and compare."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from fracturelab.cli.output import NOT_CLINICAL, columns, common, number

NO_RECORDS = "No run records in {} yet; make notebooks, fracturelab train and evaluate write them."


def add_commands(commands: Any) -> None:
    """Add the commands to the parser."""
    results = commands.add_parser(
        "results",
        parents=[common(seed=False)],
        help="show what runs have found",
        description="Show the run records as a table.",
    )
    results.add_argument("--folder", type=Path, metavar="DIR", help="where the records lie (default reports/results)")
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


def run_results(arguments: argparse.Namespace) -> tuple[object, str, int]:
    """Show the records."""
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
        text = NO_RECORDS.format(folder)
    else:
        table = [["record", "tested on", "images", "ROC AUC", "95% interval"]]
        for row in rows:
            auc = row["metrics"].get("roc_auc") or {}
            between = "-" if auc.get("low") is None else f"{number(auc['low'])} to {number(auc['high'])}"
            table.append([row["record"], row["part"], str(row["n"] or ""), number(auc.get("value")), between])
        text = columns(table, align="llrrl")
    return document, text, 0


def run_compare(arguments: argparse.Namespace) -> tuple[object, str, int]:
    """Write one table of everything, and show the main part of it."""
    import matplotlib.pyplot as plt

    from fracturelab import plots, records
    from fracturelab.records.comparison import GUESSING, SHOWN
    from fracturelab.system.folders import reports_folder

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
        shown = [
            records.interval_text(found[0].metrics.get(row.score)) if found and row.score else ""
            for found in row.scores.values()
        ]
        parameters = "" if row.parameters is None else f"{row.parameters:,}"
        speed = "" if row.ms_per_image is None else f"{row.ms_per_image:.3g}"
        score = records.COLUMNS.get(row.score, row.score) if row.score else ""
        table.append([row.model, row.data or "", parameters, speed, score, *shown])
    text = columns(table, align="llrr")
    return document, f"{text}\n\n{', '.join(map(str, files))} written. {NOT_CLINICAL}", 0
