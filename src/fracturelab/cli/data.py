"""Commands about images: audit, realimages, phantoms, fetch."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fracturelab.cli.output import NOT_CLINICAL, columns, common, count, number, say
from fracturelab.errors import FracturelabError

if TYPE_CHECKING:
    import pandas as pd


_TABLES = frozenset({"labels.csv", "dataset.csv", "readme.md", "readme.txt", "readme", "license", "license.txt"})
"""Files that belong to a data set without being images; the audit does not list them."""


def add_commands(commands: Any) -> None:
    """Add the commands to the parser."""
    audit = commands.add_parser(
        "audit",
        parents=[common(), reading_options()],
        help="look for what makes a score untrue: bad files, copies, leakage, shortcuts",
        description="Look through a data set for what makes a score untrue. It only reads.",
    )
    audit.add_argument("folder", metavar="DIR", help="folder of X-rays, in any usual layout")
    place = audit.add_mutually_exclusive_group()
    place.add_argument("--workers", type=int, metavar="N", help="processes that read files (default: one a core)")
    place.add_argument("--dask", metavar="ADDRESS", help="read on a Dask cluster, such as tcp://10.0.0.5:8786")
    audit.set_defaults(command=run_audit)

    real = commands.add_parser(
        "realimages",
        parents=[common(), reading_options()],
        help="fill realimages/ with X-rays that no training run has used",
        description="Copy X-rays of a data set, none of them used in training, with source and licence beside them.",
    )
    real.add_argument("--from", dest="folder", metavar="DIR", required=True, help="the data set")
    real.add_argument("--n", type=int, default=24, help="how many, half of them fractured (default 24)")
    real.add_argument("--out", type=Path, metavar="DIR", help="where to (default realimages/)")
    real.add_argument("--source", help="name of the data set, where the folder does not say it")
    real.add_argument("--licence", help="its licence, where the project does not know it")
    real.set_defaults(command=run_realimages)

    phantoms = commands.add_parser(
        "phantoms",
        parents=[common()],
        help="write a set of synthetic X-rays with their ground truth",
        description="Write synthetic X-rays with their ground truth in labels.csv. One seed, one set.",
    )
    phantoms.add_argument("--out", type=Path, metavar="DIR", required=True, help="folder to write")
    phantoms.add_argument("--n", type=int, default=420, help="how many, half of them fractured (default 420)")
    phantoms.add_argument("--source", choices=("clinic", "field"), default="clinic", help="which of the two hospitals")
    phantoms.add_argument("--size", type=int, metavar="PX", help="longer side in pixels")
    between = {"type": float, "nargs": 2, "metavar": ("LOW", "HIGH")}
    phantoms.add_argument(
        "--zoom", **between, help="magnification (the notebooks' sets: 1.3 3.0; default: the whole range)"
    )
    phantoms.add_argument(
        "--difficulty", **between, help="from 0, gross, to 1, subtle (the notebooks' sets: 0 0.6; default: all)"
    )
    phantoms.set_defaults(command=run_phantoms)

    fetch = commands.add_parser(
        "fetch",
        parents=[common(seed=False)],
        help="download a public data set, version pinned",
        description="Download a public data set, version pinned, and say where it lies.",
    )
    fetch.add_argument("name", help="fracatlas, multi-region or fracture-types; mura says how to get it")
    fetch.set_defaults(command=run_fetch)


def reading_options() -> argparse.ArgumentParser:
    """Return the options that say how to read a folder, as a parent parser."""
    parent = argparse.ArgumentParser(add_help=False)
    again: dict[str, Any] = {"action": "append", "default": [], "metavar": "NAME=MEANING"}
    words = "what the name of a folder, label or box means: fractured, normal, ignore or skip; may be given again"
    parent.add_argument("--label-names", **again, help=words)
    parent.add_argument("--split-names", **again, help="which part a name means: train, val, test, ignore or skip")
    layouts = "auto, labels_csv, fracatlas, mura, yolo, coco, voc, folders or unlabelled"
    parent.add_argument("--layout", default="auto", help=layouts)
    return parent


def _names(option: str, given: list[str]) -> dict[str, str]:
    names = {}
    for text in given:
        name, _, meaning = text.rpartition("=")
        if not name or not meaning:
            raise FracturelabError(f"expected {option} NAME=MEANING, such as sick=fractured. Received: {text!r}")
        names[name] = meaning
    return names


def read_folder(arguments: argparse.Namespace, *, allow_unlabelled: bool = False) -> pd.DataFrame:
    """Read the folder that a command was given into a table, and say what was used as what."""
    from fracturelab.datasets import read_dataset, reading_lines

    table = read_dataset(
        arguments.folder,
        layout=arguments.layout,
        label_names=_names("--label-names", arguments.label_names),
        split_names=_names("--split-names", arguments.split_names),
        source=getattr(arguments, "source", None),
        allow_unlabelled=allow_unlabelled,
    )
    arguments.reading = table.attrs["reading"]
    if not arguments.json:
        say("\n".join(reading_lines(arguments.reading)))
    return table


def run_audit(arguments: argparse.Namespace) -> tuple[object, str, int]:
    """Audit a data set."""
    from fracturelab.audit import audit_dataset
    from fracturelab.datasets import list_other_files
    from fracturelab.datasets.fracatlas import is_part_of_fracatlas
    from fracturelab.system.workers import on_cluster

    if arguments.workers is not None and arguments.workers < 1:
        raise FracturelabError(f"expected --workers of at least 1. Received: {arguments.workers}")
    table = read_folder(arguments)
    others = [name for name in list_other_files(arguments.folder) if Path(name).name.lower() not in _TABLES]
    read = {os.path.splitext(name)[1] for name in arguments.reading["tables"]}
    others = [name for name in others if not is_part_of_fracatlas(name) and os.path.splitext(name)[1] not in read]
    others = [os.path.join(os.path.abspath(arguments.folder), name) for name in others]
    with on_cluster(arguments.dask):
        report = audit_dataset(
            table, others=others, progress=not arguments.json, seed=arguments.seed, workers=arguments.workers
        )
    document = report.to_dict()
    lines = [f"{arguments.folder}: {count(document['images'], 'image')}", ""]
    bad = document["unreadable"]
    rows = [
        ["X-rays that cannot be read", str(len(bad))],
        ["files that are no images", str(len(report.no_images))],
        ["exact duplicates", _amount(document["exact_duplicates"])],
        ["near-duplicate groups", _amount(document["near_duplicate_groups"])],
        ["label conflicts", _amount(document["label_conflicts"])],
    ]
    for pair, found in document["cross_split"].items():
        rows.append([f"copies, {pair}", f"{found['identical']} identical, {found['near']} near, of {found['of']}"])
    document["several_pictures"] = report.facts.several
    if report.facts.several:
        rows.append(["files of several pictures", f"{report.facts.several}; only the first of each is read"])
    for name, auc in _shortcuts(document["shortcuts"]):
        rows.append([f"label from {name} alone", f"AUC {number(auc)}"])
    lines += [columns(rows), ""]
    listed = [f"  cannot be read: {item['path']}: {item['reason']}" for item in bad]
    for each in (listed, [f"  no image: {path}" for path in report.no_images]):
        lines += [*each[:10], *([f"  and {len(each) - 10} more; --json lists them all"] if each[10:] else [])]
    if bad or report.no_images:
        lines.append("")
    lines.append(document["verdict"])
    return document, "\n".join(lines), 0


def _amount(value: Any) -> str:
    return str(value if isinstance(value, int) else len(value))


def _shortcuts(found: Any) -> list[tuple[str, Any]]:
    if isinstance(found, dict):
        return sorted(found.items(), key=lambda item: -(item[1] or 0))
    return sorted(((item["name"], item["auc"]) for item in found), key=lambda item: -(item[1] or 0))


def run_realimages(arguments: argparse.Namespace) -> tuple[object, str, int]:
    """Fill realimages/."""
    from fracturelab.prediction.real_images import fill

    filled = fill(
        arguments.folder,
        n=arguments.n,
        folder=arguments.out,
        source=arguments.source,
        licence=arguments.licence,
        seed=arguments.seed,
        table=read_folder(arguments),
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
    """Write a set of phantoms."""
    from fracturelab.phantoms import write_set

    if arguments.n < 1:
        raise FracturelabError(f"expected at least one image. Received: --n {arguments.n}")
    if arguments.out.is_dir() and any(arguments.out.iterdir()):
        raise FracturelabError(f"{arguments.out} is not empty and nothing there is overwritten: name a new folder")
    asked = {name: getattr(arguments, name) for name in ("size", "zoom", "difficulty")}
    options = {name: value for name, value in asked.items() if value is not None}
    folder = write_set(
        arguments.out,
        n=arguments.n,
        source=arguments.source,
        seed=arguments.seed,
        progress=not arguments.json,
        **options,
    )
    document = {"folder": str(folder), "n": arguments.n, "source": arguments.source, "seed": arguments.seed}
    text = f"{count(arguments.n, 'synthetic X-ray')} of the source {arguments.source} in {folder}, truth in labels.csv."
    return document, text, 0


def run_fetch(arguments: argparse.Namespace) -> tuple[object, str, int]:
    """Download a public data set."""
    from fracturelab.datasets import PUBLISHED, fetch

    folder = fetch(arguments.name, progress=not arguments.json)
    terms = PUBLISHED[arguments.name].terms
    say(f"Terms of {arguments.name}: {terms}. {NOT_CLINICAL}")
    return {"name": arguments.name, "folder": str(folder), "terms": terms}, str(folder), 0
