"""Commands that train a model and that answer with one: train, predict."""

from __future__ import annotations

import argparse
import ast
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fracturelab.cli.data import read_folder, reading_options
from fracturelab.cli.output import NOT_CLINICAL, columns, common, count, metrics_table, number, say, warn
from fracturelab.errors import FracturelabError
from fracturelab.system.quiet import load_tensorflow

if TYPE_CHECKING:
    from fracturelab.training import Schedule

MANY = 10  # answers from which on it is said that all of them are the same


def add_commands(commands: Any) -> None:
    """Add the commands to the parser."""
    train = commands.add_parser(
        "train",
        parents=[common(), reading_options(), backbone_arguments()],
        help="train v1 from scratch, or v2 from a pretrained backbone",
        description="Train a model on a folder of X-rays, split by group, and save it with its card and record.",
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
    train.add_argument(
        "--calibrate", action="store_true", help="calibrate probabilities on the validation images (50 of each class)"
    )
    train.add_argument(
        "--results", type=Path, metavar="DIR", help="where the record goes (default reports/runs/results)"
    )
    train.set_defaults(command=run_train)

    predict = commands.add_parser(
        "predict",
        parents=[common()],
        help="P(fractured) of X-ray files",
        description="P(fractured) of each file. " + NOT_CLINICAL,
    )
    predict.add_argument("model", type=Path, metavar="MODEL", help="a .keras file with its card beside it")
    predict.add_argument("files", nargs="+", metavar="FILES", help="X-rays; of a folder every image in it")
    predict.add_argument(
        "--runtime",
        choices=("auto", "keras", "float32", "fast"),
        default="auto",
        help="what runs it: auto (the model's export where there is one, else keras), float32, fast",
    )
    predict.add_argument("--threshold", type=float, help="at or above it: fractured (default: the model's own)")
    predict.set_defaults(command=run_predict)


def backbone_arguments() -> argparse.ArgumentParser:
    """Return the options of v2 that say what it starts from, as a parent parser."""
    parent = argparse.ArgumentParser(add_help=False)
    parent.add_argument("--backbone", default="ResNet50", help="v2: a name of keras.applications (default ResNet50)")
    parent.add_argument(
        "--backbone-option", action="append", default=[], metavar="NAME=VALUE", help="v2: such as alpha=0.75"
    )
    parent.add_argument("--weights", default="auto", help="v2: auto (default), imagenet, bundled, none or a file")
    return parent


def chosen_weights(arguments: argparse.Namespace) -> Any:
    """Resolve what v2 starts from and say it; None for v1, which refuses the options of v2."""
    if arguments.recipe == "v1":
        of_v2 = arguments.backbone_option or arguments.backbone != "ResNet50" or arguments.weights != "auto"
        if of_v2 or getattr(arguments, "regions", False):
            raise FracturelabError("expected --backbone, --weights and other options of v2 with v2 only. Received: v1")
        return None
    from fracturelab.models.backbones import find_builder
    from fracturelab.models.weights import resolve

    options = backbone_options(arguments.backbone_option)
    load_tensorflow()
    find_builder(arguments.backbone)
    info = resolve(arguments.backbone, arguments.weights, options)
    (warn if info.kind == "none" else say)(info.sentence)
    return info


def schedule_option(arguments: argparse.Namespace, schedule: Schedule) -> Schedule:
    """The schedule of the recipe, with --epochs where it was given."""
    if arguments.epochs is None:
        return schedule
    least = 0 if arguments.recipe == "v2" else 1
    if arguments.epochs < least:
        raise FracturelabError(f"expected --epochs of at least {least}. Received: {arguments.epochs}")
    return replace(schedule, epochs=arguments.epochs)


def run_train(arguments: argparse.Namespace) -> tuple[object, str, int]:
    """Train, save and record a model."""
    from fracturelab.models.files import check_destination
    from fracturelab.records import own_folder
    from fracturelab.splits import fracatlas_sentence
    from fracturelab.system.folders import reports_folder

    check_destination(arguments.out, replace=arguments.force)
    check_size(arguments.size)
    results = check_writable(arguments.results or own_folder())
    from fracturelab import training
    from fracturelab.datasets.fractures import fracture_masks

    v1 = arguments.recipe == "v1"
    schedule = schedule_option(arguments, training.FROM_SCRATCH if v1 else training.FINE_TUNING)
    table = read_folder(arguments)
    info = chosen_weights(arguments)
    load_tensorflow()
    from fracturelab.training import saving
    from fracturelab.training.calibration import calibrated, check_enough
    from fracturelab.training.checkpoints import work_folder

    show = not arguments.json
    prepared = training.prepare(table, size=arguments.size, weights=info, seed=arguments.seed, progress=show)
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
    record = saving.record_fit(f"training-{plain_name(name)}", fit, evaluations=evaluations, folder=results)

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
        scores = ", ".join(f"{key} AUC {number(found['val_auc'])}" for key, found in fit.candidates.items())
        lines.append(f"On validation: {scores}; kept: {fit.chosen}.")
    for part, found in evaluations.items():
        lines += ["", f"{part} ({count(found['n'], 'image')})", metrics_table(found["metrics"])]
        lines += found["warnings"]
    lines += ["", f"Model: {arguments.out}, card beside it. Record: {record}.", NOT_CLINICAL]
    return document, "\n".join(lines), 0


def run_predict(arguments: argparse.Namespace) -> tuple[object, str, int]:
    """Answer for each file."""
    from fracturelab.datasets.walking import count_others
    from fracturelab.models.files import check_model_file
    from fracturelab.prediction import load_predictor
    from fracturelab.prediction.predictor import choose_runtime, image_files

    paths, left_out = image_files(arguments.files)
    runtime = choose_runtime(arguments.model, arguments.runtime)
    if runtime == "keras":
        check_model_file(arguments.model)
        load_tensorflow()
    predictor = load_predictor(arguments.model, runtime=runtime, threshold=arguments.threshold)
    table = predictor.predict_files(paths)
    rows, answers = [["P(fractured)", "", "file"]], []
    for path, probability, label, threshold, remark, problem in table.itertuples(index=False):
        if problem:
            rows.append(["-", "error", f"{path}: {problem}"])
            answers.append({"path": path, "error": problem})
            continue
        rows.append([number(probability), label, path])
        answers.append({"path": path, "p_fracture": probability, "label": label, "threshold": threshold})
        if remark:
            answers[-1]["remark"] = remark
            say(f"note: {path}: {remark}")
    for note in predictor.notes:
        say(f"note: {note}")
    answered = int((table["problem"] == "").sum())
    labels = {answer["label"] for answer in answers if "error" not in answer}
    if answered >= MANY and len(labels) == 1:
        warn(f"All {answered} predictions are {labels.pop()} at the threshold {predictor.threshold:.3f}.")
    if not answered:
        say(f"fracturelab: error: none of {count(len(answers), 'file')} can be read as an image; see the rows' reasons")
    if left_out:
        reasons = [f"{number_} {reason}" for reason, number_ in count_others(left_out).items()]
        say(f"note: files left out: {', '.join(reasons)}")
    text = f"{columns(rows, align='rll')}\nfractured from {number(predictor.threshold)} on. {NOT_CLINICAL}"
    answers += [{"path": path, "error": "left out, no image"} for path in left_out]
    return answers, text, 0 if answered else 2


def backbone_options(given: Sequence[str]) -> dict[str, Any]:
    """Read `alpha=0.75` and the like; values are Python's literals, else text."""
    options: dict[str, Any] = {}
    for item in given:
        name, equals, value = item.partition("=")
        if not equals or not name.isidentifier() or not value:
            raise FracturelabError(f"expected --backbone-option NAME=VALUE, such as alpha=0.75. Received: {item!r}")
        try:
            options[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            options[name] = value
    return options


def check_size(size: int | None) -> None:
    """Refuse a side that no network takes, before any image is read."""
    if size is not None:
        from fracturelab.models.backbones import check_input_size

        check_input_size(size)


def check_writable(folder: Path) -> Path:
    """Refuse at once, before an hour of work, a folder that cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise FracturelabError(
            f"the results folder {folder} cannot be written ({error.strerror or error}); name another with --results"
        ) from error
    return folder


def plain_name(text: str) -> str:
    """Make a record's name of any text."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-.") or "run"


def _parts(parts: Mapping[str, Mapping[str, int]]) -> str:
    return ", ".join(f"{found['n']} {name} images ({found['fractured']} fractured)" for name, found in parts.items())
