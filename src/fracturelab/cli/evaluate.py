"""Commands that measure a model on labelled X-rays: evaluate, export."""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fracturelab.cli import options, output
from fracturelab.errors import FracturelabError

if TYPE_CHECKING:
    import pandas as pd

SPLITS = ("train", "val", "test", "all", "unseen")


def add_commands(commands: Any) -> None:
    """Add the commands to the parser."""
    evaluate = options.add_command(
        commands, "evaluate", run_evaluate, options.SEED, options.READING, options.RESULTS, options.MODEL
    )
    evaluate.add_argument("folder", metavar="DIR", help="folder of X-rays")
    evaluate.add_argument(
        "--split",
        choices=SPLITS,
        help="which part (default: test where the folder has one, else all); unseen: not used in training",
    )
    evaluate.add_argument("--threshold", type=float, help="at or above it: fractured (default: the model's own)")

    export = options.add_command(commands, "export", run_export, options.SEED, options.READING, options.MODEL)
    export.add_argument(
        "--data",
        dest="folder",
        metavar="DIR",
        help="labelled X-rays, at least 400: best the folder it was trained on, whose validation images choose the "
        "threshold of `fast`",
    )


def run_evaluate(arguments: argparse.Namespace) -> tuple[object, str, int]:
    """Score a model on labelled X-rays, with 95% intervals.

    Score a model on labelled X-rays, with 95% intervals over patients or near-duplicate groups.
    """
    from fracturelab.datasets.fractures import fracture_sizes
    from fracturelab.evaluation import evaluate, subgroup_scores, verdict
    from fracturelab.images import load_images
    from fracturelab.models.files import check_model_file
    from fracturelab.models.seen import seen_files, seen_warnings
    from fracturelab.prediction import load_predictor
    from fracturelab.records import write_record

    began = time.perf_counter()
    results = options.results_folder(arguments)
    check_model_file(arguments.model)
    table = options.read_folder(arguments)
    predictor = load_predictor(arguments.model, threshold=arguments.threshold)
    threshold = predictor.threshold
    table, unreadable, part = choose_rows(table, arguments.split, predictor.card)
    hashes = table["sha256"].tolist()
    warnings = seen_warnings(seen_files(predictor.card, hashes, table["path"].tolist()))
    pixels = load_images(table["path"].tolist(), predictor.input_size, progress=not arguments.json)
    probabilities = predictor.predict(pixels)
    scores = evaluate(
        table["label"].to_numpy(int), probabilities, threshold=threshold, groups=table["group"], seed=arguments.seed
    )
    sizes = fracture_sizes(table)
    groups = subgroup_scores(table, probabilities, threshold=threshold, fracture_sizes=sizes, seed=arguments.seed)
    warnings += [*scores.warnings, *predictor.cautions(pixels)]
    document = {
        "model": str(arguments.model),
        "data": str(arguments.folder),
        "split": part,
        **scores.to_dict(),
        "groups": scores.n_groups,
        "weighted_f1": scores.metrics["weighted_f1"].to_dict(),
        "subgroups": groups,
        "unreadable": unreadable,
        "warnings": warnings,
    }
    name = options.plain_name(
        f"evaluation-{arguments.model.stem}-{Path(os.path.abspath(arguments.folder)).name}-{part}"
    )
    digest = hashlib.sha256("\n".join(sorted(hashes)).encode()).hexdigest()
    sources = ", ".join(sorted(set(table["source"].dropna())))
    record = write_record(
        _name_of_images(name, digest, results),
        kind="evaluation",
        data={"source": sources, "split": part, "n": scores.n, "sha256": digest},
        weights=predictor.card.get("weights"),
        seed=arguments.seed,
        seconds=time.perf_counter() - began,
        results={
            **scores.to_record(),
            "subgroups": groups,
            "model": str(predictor.card.get("name") or arguments.model.stem),
            "warnings": warnings,
        },
        folder=results,
    )
    document["record"] = str(record)
    for warning in warnings:
        output.warn(warning)
    fractured = int((table["label"] == 1).sum())
    among = f" in {output.count(scores.n_groups, 'group')}" if scores.n_groups < scores.n else ""
    lines = [
        f"{arguments.model} on {arguments.folder}, {_spoken(part)}: {output.count(scores.n, 'image')}{among} "
        f"({fractured} fractured), threshold {output.number(threshold)}",
        "",
        output.metrics_table({name: interval.to_dict() for name, interval in scores.metrics.items()}),
        "",
        output.confusion_table(scores.confusion_matrix),
        "",
        *([output.subgroup_table(groups), ""] if groups else []),
        verdict(scores),
        *([f"{output.count(len(unreadable), 'unreadable file')} left out; --json lists them."] if unreadable else []),
        f"Record: {record}. {output.NOT_CLINICAL}",
    ]
    return document, "\n".join(lines), 0


def choose_rows(
    table: pd.DataFrame, split: str | None, card: Mapping[str, Any]
) -> tuple[pd.DataFrame, list[dict[str, str]], str]:
    """Choose the labelled, readable rows of the part to score.

    Returns:
        The rows with groups and sha256, the unreadable files as `path` and `reason`, and the part's name.
    """
    from fracturelab.audit import usable_rows
    from fracturelab.models.seen import seen_files
    from fracturelab.splits import fracatlas_sentence

    if table["label"].isna().all():
        raise FracturelabError("expected labelled X-rays to score a model on. Received: none with a label")
    table, unreadable = usable_rows(table)
    if table.empty:
        path, reason = unreadable.iloc[0]
        raise FracturelabError(f"none of the {len(unreadable)} images can be read; the first: {path}: {reason}")
    if sentence := fracatlas_sentence(table):
        output.say(f"note: {sentence}")
    part = split or ("test" if (table["split"] == "test").any() else "all")
    if part == "unseen":
        used = [bool(uses) for uses in seen_files(card, table["sha256"].tolist(), table["path"].tolist())]
        table = table[~table["group"].isin(table.loc[used, "group"])]
    elif part != "all":
        table = table[(table["split"] == part).fillna(False)]
    if table.empty:
        raise FracturelabError(f"expected images in the part {part!r} of this folder. Received: none; see --split")
    return table.reset_index(drop=True), unreadable.to_dict("records"), part


def _name_of_images(name: str, digest: str, folder: Path) -> str:
    """The name of a record of these images: the same images again have the same name, others of that name another.

    Names of earlier versions say nothing of the images; a record of that name stays theirs if it is of these.
    """
    from fracturelab.records import read_record

    with contextlib.suppress(FracturelabError):
        if (read_record(folder / f"{name}.json").get("data") or {}).get("sha256") == digest:
            return name
    return f"{name}-{digest[:8]}"


def _spoken(part: str) -> str:
    return {"all": "all images", "unseen": "images it has not seen"}.get(part, f"{part} part")


def run_export(arguments: argparse.Namespace) -> tuple[object, str, int]:
    """Export a model to OpenVINO, so that it answers sooner and without TensorFlow.

    Write the export of a model beside it. With --data, faster networks are measured on labelled X-rays and the fastest
    one whose answers stay close is kept as the runtime `fast`.
    """
    import numpy as np

    from fracturelab.images import load_images
    from fracturelab.models.files import check_model_file, read_card
    from fracturelab.prediction.export import export_model, images_to_measure

    check_model_file(arguments.model)
    card = read_card(arguments.model)
    measured: dict[str, Any] = {}
    if arguments.folder is not None:
        rows, *_ = choose_rows(options.read_folder(arguments), "all", card)
        pixels = load_images(rows["path"].tolist(), card["input_size"], progress=not arguments.json)
        # The fixed test part stays out of every choice.
        fixed = (rows["fixed"].notna() & (rows["split"] == "test")).to_numpy(bool)
        hashes = rows["sha256"]
        measure, validation, own = images_to_measure(
            hashes.tolist(), card, never=hashes[fixed].to_numpy(str), seed=arguments.seed
        )
        measured = {
            "images": np.asarray(pixels[measure]),
            "labels": rows["label"].to_numpy(int)[measure],
            "validation": validation,
            "calibration": np.asarray(pixels[own]) if len(own) else None,
        }
        if not validation.any():
            output.say(
                "note: the model's validation images are not all in this folder; the runtime fast keeps its threshold"
            )
    export = export_model(arguments.model, **measured)
    table = [["runtime", "precision", "threshold", "furthest from float32", "speed, float32 = 1"]]
    for name, network in export.networks.items():
        furthest = network["max_difference"] if name != "float32" else 0.0
        table.append(
            [
                name,
                network["precision"],
                output.number(network["threshold"]),
                f"{furthest:.4f}",
                f"{network.get('times_float32', 1.0):.1f}",
            ]
        )
    document = {"folder": str(export.folder), "networks": export.networks}
    return document, f"{output.columns(table, align='llrrr')}\nExport: {export.folder}.\n{output.NOT_CLINICAL}", 0
