"""Commands about images: audit, realimages, phantoms, fetch."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from fracturelab.cli import options
from fracturelab.cli.output import NOT_CLINICAL, columns, count, number, say
from fracturelab.errors import FracturelabError

_TABLES = frozenset({"labels.csv", "dataset.csv", "readme.md", "readme.txt", "readme", "license", "license.txt"})
"""Files that belong to a data set without being images; the audit does not list them."""

_FEW = 5000  # images for which turned copies are looked for unasked
_TURNED = "look for copies turned by up to 20 degrees or cropped by up to 30%%, too; most are found, not all; 1,000 "
_TURNED += "images take 21 s of one core (default auto: up to 5,000 images, where the network's package is installed)"


def add_commands(commands: Any) -> None:
    """Add the commands to the parser."""
    audit = options.add_command(commands, "audit", run_audit, options.SEED, options.READING)
    audit.add_argument("folder", metavar="DIR", help="folder of X-rays, in any usual layout")
    place = audit.add_mutually_exclusive_group()
    place.add_argument("--workers", type=int, metavar="N", help="processes that read files (default: one a core)")
    place.add_argument("--dask", metavar="ADDRESS", help="read on a Dask cluster, such as tcp://10.0.0.5:8786")
    audit.add_argument("--turned", choices=("auto", "yes", "no"), default="auto", help=_TURNED)

    real = options.add_command(commands, "realimages", run_realimages, options.SEED, options.READING)
    real.add_argument("--from", dest="folder", metavar="DIR", required=True, help="the data set")
    real.add_argument("--n", type=int, default=24, help="how many, half of them fractured (default 24)")
    real.add_argument("--out", type=Path, metavar="DIR", help="where to (default realimages/)")
    real.add_argument("--source", help="name of the data set, where the folder does not say it")
    real.add_argument("--licence", help="its licence, where the project does not know it")

    phantoms = options.add_command(commands, "phantoms", run_phantoms, options.SEED)
    phantoms.add_argument("--out", type=Path, metavar="DIR", required=True, help="folder to write")
    phantoms.add_argument("--n", type=int, default=420, help="how many, half of them fractured (default 420)")
    phantoms.add_argument("--source", choices=("clinic", "field"), default="clinic", help="which of the two hospitals")
    phantoms.add_argument("--size", type=int, metavar="PX", help="longer side in pixels")
    between: dict[str, Any] = {"type": float, "nargs": 2, "metavar": ("LOW", "HIGH")}
    phantoms.add_argument(
        "--zoom", **between, help="magnification (the notebooks' sets: 3 5; default: the whole range)"
    )
    phantoms.add_argument(
        "--difficulty", **between, help="from 0, gross, to 1, subtle (the notebooks' sets: 0 0.2; default: all)"
    )

    fetch = options.add_command(commands, "fetch", run_fetch)
    fetch.add_argument("name", help="fracatlas, multi-region or fracture-types; mura says how to get it")


def run_audit(arguments: argparse.Namespace) -> tuple[object, str, int]:
    """Look for what makes a score untrue: bad files, copies, leakage, shortcuts.

    Look through a data set for what makes a score untrue. It only reads.
    """
    from fracturelab.audit import audit_dataset
    from fracturelab.audit.turned import LIMITS, missing_package
    from fracturelab.datasets import list_other_files
    from fracturelab.datasets.fracatlas import is_part_of_fracatlas
    from fracturelab.system.workers import on_cluster

    options.check_least(arguments, workers=1)
    table = options.read_folder(arguments)
    read = {os.path.splitext(name)[1] for name in arguments.reading["tables"]}
    others = [
        os.path.join(os.path.abspath(arguments.folder), name)
        for name in list_other_files(arguments.folder)
        if Path(name).name.lower() not in _TABLES
        and os.path.splitext(name)[1] not in read
        and not is_part_of_fracatlas(name)
    ]
    missing = missing_package() or (f"{len(table):,} images take minutes; --turned yes" if len(table) > _FEW else "")
    turned = arguments.turned == "yes" or (arguments.turned == "auto" and not missing)
    if arguments.turned == "auto" and not turned:
        say(f"note: copies {LIMITS} were not looked for: {missing}")
    settings = {"turned": turned, "progress": not arguments.json, "workers": arguments.workers}
    with on_cluster(arguments.dask):
        report = audit_dataset(table, others=others, seed=arguments.seed, **settings)
    facts = report.facts
    rows = [
        ["X-rays that cannot be read", str(len(report.unreadable))],
        ["files that are no images", str(len(report.no_images))],
        ["exact duplicates", str(facts.exact_duplicates)],
        ["near-duplicate groups", str(facts.near_groups)],
        ["label conflicts", str(facts.label_conflicts)],
    ]
    for pair, copies in facts.cross_split.items():
        rows.append([f"copies, {pair}", f"{copies['identical']} identical, {copies['near']} near, of {copies['of']}"])
    if facts.several:
        rows.append(["files of several pictures", f"{facts.several}; only the first of each is read"])
    for name, auc in sorted(facts.shortcuts.items(), key=lambda item: -(item[1] or 0)):
        rows.append([f"label from {name} alone", f"AUC {number(auc)}"])
    listed = []
    bad = [f"  cannot be read: {path}: {reason}" for path, reason in report.unreadable.itertuples(index=False)]
    for each in (bad, [f"  no image: {path}" for path in report.no_images]):
        listed += [*each[:10], *([f"  and {len(each) - 10} more; --json lists them all"] if each[10:] else [])]
    head = f"{arguments.folder}: {count(facts.images, 'image')}"
    lines = [head, "", columns(rows), "", *listed, *([""] if listed else []), report.verdict]
    more = int((report.pairs["orientation"] == "turned or cropped").sum())
    if more and not facts.judged:
        lines.append(f"{count(more, 'pair')} of copies, turned or cropped: train --turned keeps them on one side.")
    return {**report.to_dict(), "several_pictures": facts.several}, "\n".join(lines), 0


def run_realimages(arguments: argparse.Namespace) -> tuple[object, str, int]:
    """Fill realimages/ with X-rays that no training run has used.

    Copy X-rays of a data set, none of them used in training, with source and licence beside them.
    """
    from fracturelab.prediction.real_images import fill

    filled = fill(
        arguments.folder,
        n=arguments.n,
        folder=arguments.out,
        source=arguments.source,
        licence=arguments.licence,
        seed=arguments.seed,
        table=options.read_folder(arguments),
    )
    fractured = int((filled.table["label"] == 1).sum())
    document = {
        "folder": str(filled.folder),
        "n": len(filled.table),
        "fractured": fractured,
        "normal": len(filled.table) - fractured,
        "source": filled.source,
        "licence": filled.licence,
        "left_out": filled.left_out,
        "paths": list(filled.table["path"]),
    }
    left = ", ".join(f"{number_} {reason}" for reason, number_ in filled.left_out.items() if number_) or "none"
    text = (
        f"{len(filled.table)} X-rays ({fractured} fractured) are in {filled.folder}; labels.csv has the details.\n"
        f"Source: {filled.source}. Licence: {filled.licence}.\nLeft out: {left}."
    )
    if arguments.out is None:
        text += "\nNext: make notebooks ONLY=04"
    return document, text, 0


def run_phantoms(arguments: argparse.Namespace) -> tuple[object, str, int]:
    """Write a set of synthetic X-rays with their ground truth.

    Write synthetic X-rays with their ground truth in labels.csv. One seed, one set.
    """
    from fracturelab.phantoms import write_set

    if arguments.n < 1:
        raise FracturelabError(f"expected at least one image. Received: --n {arguments.n}")
    if arguments.out.is_dir() and any(arguments.out.iterdir()):
        raise FracturelabError(f"{arguments.out} is not empty and nothing there is overwritten: name a new folder")
    asked = {name: getattr(arguments, name) for name in ("size", "zoom", "difficulty")}
    given = {name: value for name, value in asked.items() if value is not None}
    folder = write_set(
        arguments.out, n=arguments.n, source=arguments.source, seed=arguments.seed, progress=not arguments.json, **given
    )
    document = {"folder": str(folder), "n": arguments.n, "source": arguments.source, "seed": arguments.seed}
    text = f"{count(arguments.n, 'synthetic X-ray')} of the source {arguments.source} in {folder}, truth in labels.csv."
    return document, text, 0


def run_fetch(arguments: argparse.Namespace) -> tuple[object, str, int]:
    """Download a public data set, version pinned.

    Download a public data set, version pinned, and say where it lies.
    """
    from fracturelab.datasets import PUBLISHED, fetch

    folder = fetch(arguments.name, progress=not arguments.json)
    terms = PUBLISHED[arguments.name].terms
    say(f"Terms of {arguments.name}: {terms}. {NOT_CLINICAL}")
    return {"name": arguments.name, "folder": str(folder), "terms": terms}, str(folder), 0
