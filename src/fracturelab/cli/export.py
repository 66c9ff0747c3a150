"""The command export."""

from __future__ import annotations

import argparse
from typing import Any

from fracturelab.cli import options
from fracturelab.cli.evaluate import choose_rows
from fracturelab.cli.output import NOT_CLINICAL, columns, number, say
from fracturelab.system.quiet import load_tensorflow


def add_commands(commands: Any) -> None:
    """Add the command to the parser."""
    export = options.add_command(commands, "export", run_export, options.SEED, options.READING, options.MODEL)
    export.add_argument(
        "--data",
        dest="folder",
        metavar="DIR",
        help="labelled X-rays, at least 400: best the folder it was trained on, whose validation images choose the "
        "threshold of `fast`",
    )


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
    load_tensorflow()
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
            say("note: the model's validation images are not all in this folder; the runtime fast keeps its threshold")
    export = export_model(arguments.model, **measured)
    table = [["runtime", "precision", "threshold", "furthest from float32", "speed, float32 = 1"]]
    for name, network in export.networks.items():
        furthest = network["max_difference"] if name != "float32" else 0.0
        table.append(
            [
                name,
                network["precision"],
                number(network["threshold"]),
                f"{furthest:.4f}",
                f"{network.get('times_float32', 1.0):.1f}",
            ]
        )
    document = {"folder": str(export.folder), "networks": export.networks}
    return document, f"{columns(table, align='llrrr')}\nExport: {export.folder}.\n{NOT_CLINICAL}", 0
