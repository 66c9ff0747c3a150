"""Commands about run records: results and compare."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fracturelab.cli import options
from fracturelab.cli.output import NOT_CLINICAL, columns, number

if TYPE_CHECKING:
    import pandas as pd

NO_RECORDS = "No run records in {} yet; make notebooks, fracturelab train and evaluate write them."


def add_commands(commands: Any) -> None:
    """Add the commands to the parser."""
    results = options.add_command(commands, "results", run_results)
    lie = "where the records lie (default reports/results and reports/runs/results)"
    results.add_argument("--folder", type=Path, metavar="DIR", help=lie)

    compare = options.add_command(commands, "compare", run_compare)
    compare.add_argument("--reports", type=Path, metavar="DIR", help="reports folder to read (default reports)")
    compare.add_argument("--out", type=Path, metavar="DIR", help="where to write (default the reports folder)")


def run_results(arguments: argparse.Namespace) -> tuple[object, str, int]:
    """Show what runs have found.

    Show the run records as a table.
    """
    from fracturelab.records import default_folder, own_folder, read_records

    folders = [arguments.folder] if arguments.folder else dict.fromkeys((default_folder(), own_folder()))
    records = [record for folder in folders for record in read_records(folder)]
    rows = evaluated(records)
    where = " or ".join(map(str, folders))
    document: dict[str, Any] = {"folder": where, "records": len(records), "rows": rows}
    return document, scores_text(rows) if records else NO_RECORDS.format(where), 0


def evaluated(records: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the sets of images that were tested on, as `record`, `part`, `n` and `metrics`."""
    rows = []
    for record in records:
        for part, result in (record["results"].get("evaluations") or {"": record["results"]}).items():
            if metrics := result.get("metrics"):
                rows.append({"record": record["name"], "part": part, "n": result.get("n"), "metrics": metrics})
    return rows


def scores_text(rows: Iterable[Mapping[str, Any]]) -> str:
    """Return the ROC AUC of each row of `evaluated`, as a table for people."""
    table = [["record", "tested on", "images", "ROC AUC", "95% interval"]]
    for row in rows:
        auc = row["metrics"].get("roc_auc") or {}
        between = "-" if auc.get("low") is None else f"{number(auc['low'])} to {number(auc['high'])}"
        table.append([row["record"], row["part"], str(row["n"] or ""), number(auc.get("value")), between])
    return columns(table, align="llrrl")


def run_compare(arguments: argparse.Namespace) -> tuple[object, str, int]:
    """Put all that has been run into one table: Markdown, CSV and a figure.

    One row a model: what it was trained on, its size and speed, and its scores where it was trained, chosen, tested,
    and elsewhere. What no record holds stays empty.
    """
    import matplotlib.pyplot as plt

    from fracturelab import plots, records
    from fracturelab.records.comparison import CSV_COLUMNS, GUESSING, SHOWN, comparison_rows
    from fracturelab.system.files import write_text
    from fracturelab.system.folders import reports_folder

    reports = arguments.reports or reports_folder()
    out = arguments.out or reports
    every = [record for place in ("results", "runs/results") for record in records.read_records(reports / place)]
    table = records.compare_records(every)
    document: dict[str, Any] = {"reports": str(reports), "models": _models(table), "files": []}
    if table.empty:
        return document, NO_RECORDS.format(reports / "results"), 0
    files = [out / f"comparison.{suffix}" for suffix in ("md", "csv", "png")]
    write_text(files[0], records.comparison_table(table))
    write_text(files[1], table[list(CSV_COLUMNS)].to_csv(index=False, lineterminator="\n"))
    plt.switch_backend("Agg")
    figure = plots.score_forests(records.main_scores(table), parts=SHOWN, references=GUESSING)
    plots.save_figure(figure, files[2])
    plt.close(figure)
    document["files"] = [str(file) for file in files]
    rows = [["model", "trained on", "parameters", "ms", "score", *records.PARTS]]
    for model, data, _, score, parameters, speed, *parts in comparison_rows(table, between=None):
        rows.append([model, data, parameters, speed, score, *parts])
    text = columns(rows, align="llrr")
    return document, f"{text}\n\n{', '.join(map(str, files))} written. {NOT_CLINICAL}", 0


def _models(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The comparison as nested mappings: a mapping for each model, in it one for each set of images."""
    models = []
    for _, run in table.groupby("run"):
        tested = []
        for _, images in run.groupby("set", sort=False):
            metrics = images.set_index("metric")[["value", "low", "high"]].to_dict("index")
            tested.append({**images.iloc[0][["part", "tested_on", "n", "record"]].to_dict(), "metrics": metrics})
        about = run.iloc[0][["model", "data", "weights", "parameters", "ms_per_image"]].to_dict()
        score = next(iter(run.loc[run["main"], "metric"]), None)
        models.append({**about, "score": score, "tested": tested, "records": list(dict.fromkeys(run["record"]))})
    return models
