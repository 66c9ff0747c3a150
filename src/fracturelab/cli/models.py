"""Commands that train a model and that answer with one: train, predict."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fracturelab.cli import options
from fracturelab.cli.output import NOT_CLINICAL, columns, count, metrics_table, number, say, warn

MANY = 10  # answers from which on it is said that all of them are the same


def add_commands(commands: Any) -> None:
    """Add the commands to the parser."""
    train = options.add_command(
        commands, "train", run_train, options.SEED, options.READING, options.BACKBONE, options.RESULTS
    )
    train.add_argument("recipe", choices=("v1", "v2"), help="v1: a CNN from scratch; v2: transfer learning")
    train.add_argument("--data", dest="folder", metavar="DIR", required=True, help="folder of X-rays")
    train.add_argument("--out", type=Path, metavar="FILE", required=True, help="model to write, such as models/x.keras")
    train.add_argument("--force", action="store_true", help="replace --out where it is a finished model")
    train.add_argument("--size", type=int, metavar="PX", help="side of the input (v1: 128; v2: what suits the weights)")
    train.add_argument("--epochs", type=int, help="most epochs (v2: of fine-tuning; 0 keeps the frozen probe)")
    train.add_argument(
        "--regions", action="store_true", help="v2: a head on maps that learns FracAtlas' outlines of fractures as well"
    )
    turned = "keep the turned and cropped copies that audit --turned yes finds on one side of the split"
    train.add_argument("--turned", action="store_true", help=turned)
    train.add_argument(
        "--calibrate", action="store_true", help="calibrate probabilities on the validation images (50 of each class)"
    )

    predict = options.add_command(commands, "predict", run_predict, options.SEED, options.MODEL)
    predict.add_argument("files", nargs="+", metavar="FILES", help="X-rays; of a folder every image in it")
    predict.add_argument(
        "--runtime",
        choices=("auto", "keras", "float32", "fast"),
        default="auto",
        help="what runs it: auto (the model's export where there is one, else keras), float32, fast",
    )
    predict.add_argument("--threshold", type=float, help="at or above it: fractured (default: the model's own)")


def run_train(arguments: argparse.Namespace) -> tuple[object, str, int]:
    """Train v1 from scratch, or v2 from a pretrained backbone.

    Train a model on a folder of X-rays, split by group, and save it with its card and record.
    """
    from fracturelab.models.files import check_destination
    from fracturelab.splits import fracatlas_sentence
    from fracturelab.system.folders import reports_folder

    check_destination(arguments.out, replace=arguments.force)
    options.check_size(arguments.size)
    results = options.results_folder(arguments)
    from fracturelab import training
    from fracturelab.datasets.fractures import fracture_masks

    v1 = arguments.recipe == "v1"
    schedule = options.schedule_option(arguments, training.FROM_SCRATCH if v1 else training.FINE_TUNING)
    table = options.read_folder(arguments)
    info = options.chosen_weights(arguments)
    from fracturelab.training import saving
    from fracturelab.training.calibration import calibrated, check_enough
    from fracturelab.training.checkpoints import work_folder

    show = not arguments.json
    prepared = training.prepare(
        table, size=arguments.size, weights=info, seed=arguments.seed, turned=arguments.turned, progress=show
    )
    for row in prepared.unreadable.itertuples():
        say(f"left out: {row.path}: {row.reason}")
    if sentence := fracatlas_sentence(prepared.table):
        say(f"note: {sentence}")
    if arguments.calibrate:
        check_enough(prepared.labels[prepared.rows("val")])
    fitted: dict[str, Any] = {"seed": arguments.seed, "schedule": schedule}
    settings = {**fitted, "schedule": asdict(schedule), "recipe": arguments.recipe}
    settings["weights"] = info.to_dict() if info is not None else None
    name = arguments.out.stem
    with work_folder(reports_folder(), prepared, settings) as work:
        fitted |= {"work_dir": work, "progress": show}
        if arguments.regions:
            fractures = fracture_masks(prepared.table, prepared.size)
            fit = training.train_maps(prepared, fractures, weights=info, seed=arguments.seed, progress=show)
        else:
            fit = training.train_v1(prepared, **fitted) if v1 else training.train_v2(prepared, weights=info, **fitted)
        if arguments.calibrate:
            fit = calibrated(fit)
        evaluations = saving.evaluate_parts(fit)
        fit.save(arguments.out, evaluations=evaluations)
    data = saving.describe_data(prepared)
    record = saving.record_fit(f"training-{options.plain_name(name)}", fit, evaluations=evaluations, folder=results)

    document = {
        "model": str(arguments.out),
        "record": str(record),
        "recipe": arguments.recipe,
        "chosen": fit.chosen,
        "input_size": prepared.size,
        "threshold": fit.threshold,
        "weights": fit.weights.to_dict() if fit.weights is not None else None,
        "parts": data["parts"],
        "unreadable": prepared.unreadable.to_dict("records"),
        "candidates": fit.candidates,
        "evaluations": evaluations,
        "warnings": list(fit.warnings),
        "seed": fit.seed,
        "seconds": fit.seconds,
    }
    lines = [f"{arguments.recipe} trained in {fit.seconds:.0f} s on {_parts(data['parts'])}."]
    if len(fit.candidates) > 1:
        listed = ", ".join(f"{key} AUC {number(candidate['val_auc'])}" for key, candidate in fit.candidates.items())
        lines.append(f"On validation: {listed}; kept: {fit.chosen}.")
    for part, scores in evaluations.items():
        lines += ["", f"{part} ({count(scores['n'], 'image')})", metrics_table(scores["metrics"])]
        lines += scores["warnings"]
    lines += ["", f"Model: {arguments.out}, card beside it. Record: {record}.", NOT_CLINICAL]
    return document, "\n".join(lines), 0


def run_predict(arguments: argparse.Namespace) -> tuple[object, str, int]:
    """P(fractured) of X-ray files.

    P(fractured) of each file. Not for clinical use.
    """
    from fracturelab.datasets.walking import count_others
    from fracturelab.prediction import load_predictor
    from fracturelab.prediction.predictor import image_files

    paths, left_out = image_files(arguments.files)
    predictor = load_predictor(arguments.model, runtime=arguments.runtime, threshold=arguments.threshold)
    rows, answers, labels = [["P(fractured)", "", "file"]], [], []
    for row in predictor.answers(paths):
        path = row["path"]
        if row["problem"]:
            rows.append(["-", "error", f"{path}: {row['problem']}"])
            answers.append({"path": path, "error": row["problem"]})
            continue
        rows.append([number(row["probability"]), row["label"], path])
        answers.append({"path": path, "p_fracture": row["probability"]})
        answers[-1] |= {"label": row["label"], "threshold": row["threshold"]}
        labels.append(row["label"])
        if row["remark"]:
            answers[-1]["remark"] = row["remark"]
            say(f"note: {path}: {row['remark']}")
    for note in predictor.notes:
        say(f"note: {note}")
    if len(labels) >= MANY and len(set(labels)) == 1:
        warn(f"All {len(labels)} predictions are {labels[0]} at the threshold {predictor.threshold:.3f}.")
    if not labels:
        say(f"fracturelab: error: none of {count(len(answers), 'file')} can be read as an image; see the rows' reasons")
    if left_out:
        reasons = [f"{number_} {reason}" for reason, number_ in count_others(left_out).items()]
        say(f"note: files left out: {', '.join(reasons)}")
    text = f"{columns(rows, align='rll')}\nfractured from {number(predictor.threshold)} on. {NOT_CLINICAL}"
    answers += [{"path": path, "error": "left out, no image"} for path in left_out]
    return answers, text, 0 if labels else 2


def _parts(parts: Mapping[str, Mapping[str, int]]) -> str:
    return ", ".join(f"{counts['n']} {name} images ({counts['fractured']} fractured)" for name, counts in parts.items())
