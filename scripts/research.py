"""Commands that take from minutes to hours: pretrain, evidence, baselines, students, localise, answers."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from fracturelab.cli import options
from fracturelab.cli.output import NOT_CLINICAL, say
from fracturelab.errors import FracturelabError


def add_commands(commands: Any) -> None:
    """Add the commands to the parser."""
    pretrain = options.add_command(commands, "pretrain", run_pretrain, options.SEED)
    pretrain.add_argument("--backbone", default="ResNet50", help="a name of keras.applications (default ResNet50)")
    pretrain.add_argument("--work", type=Path, metavar="DIR", required=True, help="phantoms, checkpoints and log")
    pretrain.add_argument("--real", type=Path, metavar="DIR", help="labelled X-rays; their fixed test part is left out")
    pretrain.add_argument("--teacher", type=Path, metavar="FILE", help="ImageNet weights of MobileNet 0.75")
    pretrain.add_argument("--phantoms", type=int, default=16_000, help="how many phantoms (default 16000)")
    pretrain.add_argument("--start", metavar="WEIGHTS", help="go on from these: bundled, or a file (default random)")
    pretrain.add_argument("--scale", type=float, default=1.0, help="times the images of every stage (default 1)")
    pretrain.add_argument(
        "--only", metavar="STAGE", help="one stage alone: both-96, -128 or -160; without --real phantoms-96, ..."
    )
    pretrain.add_argument("--out", type=Path, metavar="DIR", help="write bundled weights there when done")
    pretrain.add_argument("--name", help="name of the weights (default the backbone's, in small letters)")

    evidence = options.add_command(commands, "evidence", run_evidence, options.SEED, options.READING)
    evidence.add_argument("folder", metavar="DIR", help="a labelled data set with a test part, such as FracAtlas")
    evidence.add_argument("--backbone", default="ResNet50", help="a name of keras.applications (default ResNet50)")
    evidence.add_argument("--backbone-option", action="append", default=[], metavar="NAME=VALUE")
    evidence.add_argument("--weights", default="bundled", help="imagenet, bundled, none or a file (default bundled)")
    evidence.add_argument(
        "--size",
        type=int,
        nargs="+",
        metavar="PX",
        help="sides of the input; the validation part chooses (default: what suits the weights)",
    )
    evidence.add_argument("--draws", type=int, default=10, help="draws at each size below all (default 10)")
    evidence.add_argument(
        "--settle", action="store_true", help="of random weights: set the batch norms by 32 images first, as v2 does"
    )
    evidence.add_argument("--name", help="name of the weights in tables")

    small = options.add_command(commands, "small", run_small, options.SEED)
    small.add_argument("folder", metavar="DIR", help="FracAtlas, its annotations inside or beside it")
    small.add_argument("--out", type=Path, metavar="FILE", default=Path("models/fracturelab-small.keras"))
    small.add_argument("--work", type=Path, metavar="DIR", help="activations and heads (default: in the cache folder)")
    small.add_argument("--results", type=Path, metavar="DIR", help="where the records go (default reports/results)")
    small.add_argument("--size", type=int, default=320, metavar="PX", help="side of the input (default 320)")
    small.add_argument("--epochs", type=int, help="of each head (default: the shipped model's)")

    baselines = options.add_command(commands, "baselines", run_baselines, options.SEED)
    baselines.add_argument("--seeds", type=int, default=3, help="how many, counted from --seed (default 3)")
    baselines.add_argument("--only", metavar="PART", help="one part alone: v1, leak, v2 or types")

    students = options.add_command(commands, "students", run_students, options.SEED)
    students.add_argument("--seeds", type=int, default=5, help="how many, counted from --seed (default 5)")
    students.add_argument("--trials", type=int, default=40, help="of the search (default 40)")

    localise = options.add_command(commands, "localise", run_localise, options.SEED, options.READING)
    localise.add_argument("model", type=Path, metavar="MODEL", help="a .keras file with its card beside it")
    localise.add_argument("folder", metavar="DIR", help="FracAtlas, with its annotations")
    localise.add_argument(
        "--costly",
        type=int,
        default=40,
        metavar="N",
        help="fractured, and as many normal, X-rays for occlusion, LIME and SHAP (default 40; 0 leaves them out)",
    )

    answers = options.add_command(commands, "answers", run_answers, options.SEED, options.READING)
    answers.add_argument("folder", metavar="DIR", help="FracAtlas")
    answers.add_argument(
        "--model",
        action="append",
        required=True,
        metavar="NAME=FILE",
        help="a .keras file and what the table calls it, such as v1=models/v1.keras; may be given again",
    )
    answers.add_argument("--out", type=Path, metavar="DIR", help="where both go (default the project's results)")


def run_pretrain(arguments: argparse.Namespace) -> tuple[object, str, int]:
    """Pretrain a backbone on phantoms, and on a teacher's view of real X-rays.

    Pretrain a backbone; stop it at any moment and start it again with the same arguments.
    """
    from fracturelab.models.weights import resolve
    from scripts.pretraining import bundle, run

    stages = run.recipe(scale=arguments.scale, real=arguments.real is not None)
    if arguments.only is not None:
        names = [stage.name for stage in stages]
        if arguments.only not in names:
            raise FracturelabError(f"expected --only with one of {', '.join(names)}. Received: {arguments.only}")
        stages = (stages[names.index(arguments.only)],)
    real, teacher = bundle.prepare_real(arguments.real, arguments.teacher)
    if real is None:
        say("no real X-rays and no teacher: phantoms alone")
    weights = resolve(arguments.backbone, arguments.start) if arguments.start else None
    phantoms = bundle.prepare_phantoms(arguments.work, count=arguments.phantoms, seed=arguments.seed)
    folder = arguments.work / arguments.backbone
    run.pretrain(
        folder,
        backbone=arguments.backbone,
        phantoms=phantoms,
        stages=stages,
        real=real,
        teacher=teacher,
        weights_path=weights.path if weights else None,
        scaling=bundle.SCALING,
        seed=arguments.seed,
    )
    document: dict[str, Any] = {"folder": str(folder), "stages": [stage.name for stage in stages], "weights": None}
    text = f"Pretraining is finished: {folder}."
    if arguments.out is not None:
        info = bundle.export(
            folder,
            stages,
            backbone=arguments.backbone,
            into=arguments.out,
            name=arguments.name or arguments.backbone.lower(),
            origin=bundle.ORIGIN_PHANTOMS if real is None else bundle.ORIGIN_BOTH,
            licence=bundle.LICENCE_PHANTOMS if real is None else bundle.LICENCE_BOTH,
        )
        document["weights"] = info.to_dict()
        text += f" Weights: {info.path}."
    return document, text, 0


def run_evidence(arguments: argparse.Namespace) -> tuple[object, str, int]:
    """Measure what weights are worth: the frozen probe with 50, 100, ... and all images.

    Train heads on frozen features of more and more images; test on the test part. Writes a record, also of what means
    alone, and means and maxima, reach on the validation part.
    """
    from fracturelab.models.transfer import default_input_size
    from fracturelab.models.weights import resolve
    from fracturelab.records import read_records
    from fracturelab.records.files import check_name
    from fracturelab.training import prepare
    from scripts.evidence import (
        evidence_table,
        frozen_features,
        learning_curve,
        runtime,
        validation_scores,
        write_evidence,
    )

    began = time.perf_counter()
    table = options.read_folder(arguments)
    weights = resolve(arguments.backbone, arguments.weights, options.backbone_options(arguments.backbone_option))
    if arguments.settle and weights.kind != "none":
        raise FracturelabError(
            f"expected --settle with random weights alone (--weights none). Received: {weights.name}"
        )
    if arguments.draws < 2:
        raise FracturelabError(f"expected at least 2 draws, to know their spread. Received: {arguments.draws}")
    name = arguments.name or f"{arguments.backbone}-{weights.name}"
    check_name(f"evidence-{name}")
    settings = {"seed": arguments.seed, "settle": arguments.settle, "progress": not arguments.json}
    tried, validation = {}, {}
    for size in arguments.size or [default_input_size(arguments.backbone, weights)]:
        prepared = prepare(table, size=size, seed=arguments.seed, progress=not arguments.json)
        tried[size] = prepared
        features = frozen_features(prepared, weights, test=False, **settings)
        validation[size] = validation_scores(prepared, features, seed=arguments.seed)
        say(f"{size} px: {validation[size]['means']['roc_auc']['value']:.3f} on the validation part")
    best = max(tried, key=lambda size: validation[size]["means"]["roc_auc"]["value"])
    features = frozen_features(tried[best], weights, **settings)
    curve = learning_curve(tried[best], features.means, draws=arguments.draws, seed=arguments.seed)
    path = write_evidence(
        name,
        curve,
        prepared=tried[best],
        weights=weights,
        seed=arguments.seed,
        seconds=time.perf_counter() - began,
        validation=validation,
        settings={"settle": arguments.settle, "draws": arguments.draws, "runtime": runtime()},
    )
    document = {"record": str(path), "curve": curve.summary(), "strength": curve.strength, "validation": validation}
    records = [record for record in read_records(path.parent) if record["name"] == f"evidence-{name}"]
    return document, f"{evidence_table(records)}\n\nRecord: {path}. {NOT_CLINICAL}", 0


def run_baselines(arguments: argparse.Namespace) -> tuple[object, str, int]:
    """Repeat the experiments of notebooks 02, 03 and 05 on the default sets over seeds.

    Train v1, v1 with a leak, v2, and the networks for fracture types over seeds. Writes a record a part.
    """
    import pandas as pd

    from fracturelab.records import read_record
    from scripts.baselines import PARTS, Settings, summary, write_baselines, write_types

    if arguments.only not in (None, *PARTS, "types"):
        raise FracturelabError(f"expected --only with one of {', '.join(PARTS)}, types. Received: {arguments.only}")
    if arguments.seeds < 1:
        raise FracturelabError(f"expected --seeds of at least 1. Received: {arguments.seeds}")
    seeds = [arguments.seed + number for number in range(arguments.seeds)]
    document, texts = {}, []
    for part in [arguments.only] if arguments.only else [*PARTS, "types"]:
        path = write_types(seeds) if part == "types" else write_baselines(part, seeds, Settings())
        document[part] = runs = read_record(path)["results"]["runs"]
        table = pd.DataFrame(runs).set_index(["set", "seed"]) if part == "types" else summary(runs)
        texts.append(f"{table.to_string()}\n\nRecord: {path}.")
    return document, "\n\n".join([*texts, NOT_CLINICAL]), 0


def run_students(arguments: argparse.Namespace) -> tuple[object, str, int]:
    """Repeat the students of notebook 09 over seeds, and search for settings of one.

    Train students alone, taught and tuned on the default set. A stopped command goes on. Writes a record of the search
    and one of the students.
    """
    from fracturelab.records import read_record
    from scripts.baselines import summary
    from scripts.students import Settings, write_students

    if arguments.seeds < 1 or arguments.trials < 1:
        raise FracturelabError(
            f"expected --seeds and --trials of at least 1. Received: {arguments.seeds} and {arguments.trials}"
        )
    seeds = [arguments.seed + number for number in range(arguments.seeds)]
    paths = write_students(seeds, Settings(), trials=arguments.trials)
    results = read_record(paths[1])["results"]
    runs = [{**run, "roc_auc": {"test": run["test"]}} for run in results["runs"]]
    written = " and ".join(str(path) for path in paths)
    return results, f"{summary(runs).to_string()}\n\nRecords: {written}. {NOT_CLINICAL}", 0


def run_localise(arguments: argparse.Namespace) -> tuple[object, str, int]:
    """Measure how well heat maps point at the fractures of FracAtlas' test part.

    Score heat maps of a model against the outlines of fractures. Writes a record.
    """
    from fracturelab.cli.evaluate import choose_rows
    from fracturelab.cli.output import columns
    from fracturelab.datasets import fingerprint
    from fracturelab.images import load_images
    from fracturelab.models.files import load_model
    from fracturelab.prediction import load_predictor
    from fracturelab.records import interval_text, write_record
    from fracturelab.splits import with_fracatlas_parts
    from scripts import localise
    from scripts.localisation import TOLERANCE

    began = time.perf_counter()
    predictor, model = load_predictor(arguments.model), load_model(arguments.model)
    whole = options.read_folder(arguments)
    table, *_ = choose_rows(whole, "test", predictor.card)
    size = predictor.input_size
    images = load_images(table["path"].tolist(), size, progress=not arguments.json)
    answers = predictor.predict(images)
    mean = localise.training_mean(with_fracatlas_parts(whole), size)
    cheap = localise.cheap_methods(model, predictor.card.get("map"), mean, seed=arguments.seed)
    scores = {"all": localise.score_methods(cheap, images, table, answers, seed=arguments.seed)}
    counts = {"all": [len(table), int(table["label"].sum())]}
    if arguments.costly:
        rows = localise.subset(table, arguments.costly, seed=arguments.seed)
        part, methods = table.iloc[rows], {**localise.costly_methods(predictor.predict, seed=arguments.seed), **cheap}
        scores["subset"] = localise.score_methods(methods, images[rows], part, answers[rows], seed=arguments.seed)
        counts["subset"] = [len(rows), int(part["label"].sum())]
    path = write_record(
        f"localisation-{arguments.model.stem}",
        kind="localisation",
        data={"source": "FracAtlas", "split": "test", "sha256": fingerprint(table)},
        weights=predictor.card.get("weights"),
        seed=arguments.seed,
        seconds=time.perf_counter() - began,
        settings={"tolerance": TOLERANCE, "input_size": size, "costly": arguments.costly},
        results={"scores": scores, "x_rays_and_fractured": counts, "model": arguments.model.stem},
    )
    lines = []
    for name, methods in scores.items():
        keys = list(next(iter(methods.values())))
        rows = [[f"{name}: {counts[name][0]} X-rays, {counts[name][1]} fractured", *keys]]
        rows += [[method, *(interval_text(row[key]) for key in keys)] for method, row in methods.items()]
        lines += [columns(rows), ""]
    return {"record": str(path), "scores": scores}, "\n".join([*lines, f"Record: {path}. {NOT_CLINICAL}"]), 0


def run_answers(arguments: argparse.Namespace) -> tuple[object, str, int]:
    """Store the answers of models on FracAtlas' test and validation parts, which notebook 04 reads.

    Run models on FracAtlas' fixed parts. Writes a table of numbers and a record.
    """
    from fracturelab.prediction import load_predictor
    from fracturelab.records.files import default_folder
    from scripts.answers import KNOWN, collect, write_answers

    began = time.perf_counter()
    files = [given.partition("=") for given in arguments.model]
    for name, _, file in files:
        if not name or not file or name in KNOWN:
            raise FracturelabError(f"expected --model NAME=FILE. Received: {name}={file}")
    models = {name: load_predictor(file, runtime="keras") for name, _, file in files}
    answers = collect(options.read_folder(arguments), models, progress=not arguments.json)
    folder = arguments.out or default_folder()
    path = write_answers(answers, models, seconds=time.perf_counter() - began, folder=folder)
    text = f"{len(answers)} X-rays, answers of {', '.join(models)}: {path}. {NOT_CLINICAL}"
    return {"table": str(path), "n": len(answers), "models": list(models)}, text, 0


def run_small(arguments: argparse.Namespace) -> tuple[object, str, int]:
    """Train the model that the repository ships.

    Train, calibrate, save, export and record the shipped model on FracAtlas with its annotations. Stop it at any moment
    and start it again with the same arguments.
    """
    from fracturelab.images import default_cache_dir
    from scripts.small import Recipe, train_small, write_small

    work = arguments.work or default_cache_dir() / "small"
    recipe = Recipe(size=arguments.size, epochs=arguments.epochs)
    fit, heads = train_small(arguments.folder, work, recipe=recipe, progress=not arguments.json)
    record = write_small(fit, heads, arguments.out, results=arguments.results)
    return {"model": str(arguments.out), "record": str(record)}, f"Model: {arguments.out}. Record: {record}.", 0
