"""The command cross-validate."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fracturelab.cli import options
from fracturelab.cli.output import NOT_CLINICAL, columns, count, metrics_table, number, say, warn

if TYPE_CHECKING:
    from fracturelab.experiments.fold_scores import CrossValidation


def add_commands(commands: Any) -> None:
    """Add the command to the parser."""
    shared = (options.SEED, options.READING, options.BACKBONE, options.RESULTS)
    parser = options.add_command(commands, "cross-validate", run_cross_validate, *shared)
    parser.add_argument("folder", metavar="DIR", help="folder of X-rays")
    parser.add_argument("--folds", type=int, default=5, help="how many (default 5)")
    parser.add_argument("--recipe", choices=("v1", "v2"), default="v2", help="as in train (default v2)")
    parser.add_argument("--size", type=int, metavar="PX", help="side of the input (default 224)")
    parser.add_argument("--epochs", type=int, help="most epochs (v2: of fine-tuning; 0 keeps the frozen probe)")
    parser.add_argument(
        "--holdout",
        choices=("test", "val", "none"),
        default="test",
        help="test (default): the published or fixed test part, else one cut by group; val: a published validation "
        "part, as papers on MURA do; none: folds alone",
    )
    place = parser.add_mutually_exclusive_group()
    place.add_argument("--workers", type=int, default=1, metavar="N", help="fits at the same time here (default 1)")
    place.add_argument("--dask", metavar="ADDRESS", help="fit on a Dask cluster, such as tcp://10.0.0.5:8786")
    parser.add_argument(
        "--threads", type=int, metavar="N", help="of each fit (default 2); the same number gives the same scores"
    )
    parser.add_argument("--work", type=Path, metavar="DIR", help="keep finished folds there, for this run and later")


def run_cross_validate(arguments: argparse.Namespace) -> tuple[object, str, int]:
    """K folds by patient, then a holdout test; goes on where it was stopped.

    Fit and score K folds, stratified and by patient or near-duplicate group; then fit on all of them and test on the
    holdout. Stopped at any moment and started again, it goes on with the first fold missing.
    """
    options.check_least(arguments, folds=2, workers=1, threads=1)
    options.check_size(arguments.size)
    results = options.results_folder(arguments)
    from fracturelab.experiments.fold_scores import record_folds
    from fracturelab.experiments.folds import DEFAULTS, SIZE, Parallel, cross_validate, with_holdout
    from fracturelab.training import prepare

    schedule = options.schedule_option(arguments, DEFAULTS[arguments.recipe]["schedule"])
    table = with_holdout(options.read_folder(arguments), arguments.holdout)
    weights = options.chosen_weights(arguments)
    parallel = Parallel(arguments.threads or Parallel.threads, arguments.workers, arguments.dask)

    prepared = prepare(
        table,
        size=arguments.size or SIZE,
        seed=arguments.seed,
        val=0.0,
        test=0.0 if arguments.holdout == "none" else 0.15,
        progress=not arguments.json,
    )
    for row in prepared.unreadable.itertuples():
        say(f"left out: {row.path}: {row.reason}")
    result = cross_validate(
        prepared,
        folds=arguments.folds,
        recipe=arguments.recipe,
        options={"schedule": schedule},
        weights=weights,
        seed=arguments.seed,
        holdout=arguments.holdout != "none",
        parallel=parallel,
        work_dir=arguments.work,
        report=say,
    )
    name = options.plain_name(f"cross-validation-{arguments.recipe}-{Path(arguments.folder).absolute().name}")
    record = record_folds(name, result, folder=results)
    for warning in result.warnings:
        warn(warning)
    document = {
        "data": str(arguments.folder),
        "record": str(record),
        "recipe": arguments.recipe,
        "input_size": prepared.size,
        "weights": weights.to_dict() if weights is not None else None,
        "groups": int(prepared.table["group"].nunique()),
        "unreadable": prepared.unreadable.to_dict("records"),
        **result.to_results(),
        "seed": arguments.seed,
        "threads": result.settings["threads"],
        "seconds": result.seconds,
    }
    return document, "\n".join([*_lines(result), f"Record: {record}. {NOT_CLINICAL}"]), 0


def _lines(result: CrossValidation) -> list[str]:
    from fracturelab.records import metric_name

    lines = [f"{result.settings['recipe']}, {count(len(result.folds), 'fold')}, {result.seconds:.0f} s of fitting."]
    for level in result.levels:
        table, spread = result.scores(level), result.spread(level)
        names = list(spread)
        rows = [["", "n", *map(metric_name, names)]]
        rows += [[fold, f"{int(row['n'])}", *(number(row[name]) for name in names)] for fold, row in table.iterrows()]
        rows += [["mean", "", *(number(spread[name].mean) for name in names)]]
        rows += [["sd", "", *(number(spread[name].sd) for name in names)]]
        lines += ["", level, columns(rows, align="l" + "r" * (len(names) + 1))]
    if result.holdout is not None:
        for level, scored in (("image", result.holdout.images), ("studie", result.holdout.studies)):
            if scored is not None:
                scores = {key: value.to_dict() for key, value in scored.metrics.items()}
                title = "holdout, fitted on all folds" + (", studies" if level == "studie" else "")
                lines += ["", f"{title} ({scored.n} {level}s)", metrics_table(scores)]
    return lines
