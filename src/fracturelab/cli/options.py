"""Commands and the options that several of them share, and what is checked before any work begins."""

from __future__ import annotations

import argparse
import ast
import re
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fracturelab.cli.output import say, warn
from fracturelab.errors import FracturelabError

if TYPE_CHECKING:
    import pandas as pd

    from fracturelab.training import Schedule


def add_command(
    commands: Any, name: str, run: Callable[[argparse.Namespace], Any], *parents: argparse.ArgumentParser
) -> argparse.ArgumentParser:
    """Add a command to the parser.

    Args:
        commands: What `add_subparsers` gave.
        name: The command.
        run: What it does. The first line of its docstring is the line of the command in the list of all commands, the
            second paragraph is the description in the command's own help.
        parents: Options that it shares with others; `--json` is always there.

    Returns:
        The command's parser, for its own options.
    """
    short, _, long = (run.__doc__ or name).partition("\n\n")
    short = (short[:1].lower() + short[1:] if short[1:2].islower() else short).removesuffix(".").replace("%", "%%")
    parser = commands.add_parser(name, parents=[JSON, *parents], help=short, description=" ".join(long.split()))
    parser.set_defaults(command=run)
    return parser


def _parent(*names: str, **option: Any) -> argparse.ArgumentParser:
    parent = argparse.ArgumentParser(add_help=False)
    parent.add_argument(*names, **option)
    return parent


JSON = _parent("--json", action="store_true", help="print one JSON document (docs/command-line.md)")
SEED = _parent("--seed", type=int, default=0, help="random seed (default 0)")
MODEL = _parent("model", type=Path, metavar="MODEL", help="a .keras file with its card beside it")
RESULTS = _parent("--results", type=Path, metavar="DIR", help="where the record goes (default reports/runs/results)")

READING = _parent(
    "--label-names",
    action="append",
    default=[],
    metavar="NAME=MEANING",
    help="what the name of a folder, label or box means: fractured, normal, ignore or skip; may be given again",
)
"""How to read a folder."""
READING.add_argument(
    "--split-names",
    action="append",
    default=[],
    metavar="NAME=MEANING",
    help="which part a name means: train, val, test, ignore or skip",
)
READING.add_argument(
    "--layout", default="auto", help="auto, labels_csv, fracatlas, mura, yolo, coco, voc, folders or unlabelled"
)

BACKBONE = _parent("--backbone", default="ResNet50", help="v2: a name of keras.applications (default ResNet50)")
"""What v2 starts from."""
BACKBONE.add_argument(
    "--backbone-option", action="append", default=[], metavar="NAME=VALUE", help="v2: such as alpha=0.75"
)
BACKBONE.add_argument("--weights", default="auto", help="v2: auto (default), imagenet, bundled, none or a file")


def read_folder(arguments: argparse.Namespace) -> pd.DataFrame:
    """Read the folder that a command was given into a table, and print how it was read."""
    from fracturelab.datasets import read_dataset, reading_lines

    table = read_dataset(
        arguments.folder,
        layout=arguments.layout,
        label_names=_names("--label-names", arguments.label_names),
        split_names=_names("--split-names", arguments.split_names),
        source=getattr(arguments, "source", None),
    )
    arguments.reading = table.attrs["reading"]
    if not arguments.json:
        say("\n".join(reading_lines(arguments.reading)))
    return table


def _names(option: str, given: list[str]) -> dict[str, str]:
    names = {}
    for text in given:
        name, _, meaning = text.rpartition("=")
        if not name or not meaning:
            raise FracturelabError(f"expected {option} NAME=MEANING, such as sick=fractured. Received: {text!r}")
        names[name] = meaning
    return names


def read_values(option: str, given: Sequence[str], example: str = "") -> dict[str, Any]:
    """Read `alpha=0.75` and the like; values are Python's literals, else text.

    Raises:
        FracturelabError: A text is not NAME=VALUE.
    """
    values: dict[str, Any] = {}
    for item in given:
        name, equals, value = item.partition("=")
        if not equals or not name.isidentifier() or not value:
            raise FracturelabError(f"expected {option} NAME=VALUE{example}. Received: {item!r}")
        try:
            values[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            values[name] = value
    return values


def backbone_options(given: Sequence[str]) -> dict[str, Any]:
    """Read what `--backbone-option` was given."""
    return read_values("--backbone-option", given, ", such as alpha=0.75")


def chosen_weights(arguments: argparse.Namespace) -> Any:
    """Find the weights that v2 starts from and print their origin; return None for v1, which takes no options of v2."""
    if arguments.recipe == "v1":
        of_v2 = arguments.backbone_option or arguments.backbone != "ResNet50" or arguments.weights != "auto"
        if of_v2 or getattr(arguments, "regions", False):
            raise FracturelabError("expected --backbone, --weights and other options of v2 with v2 only. Received: v1")
        return None
    from fracturelab.models.backbones import find_builder
    from fracturelab.models.weights import resolve

    options = backbone_options(arguments.backbone_option)
    find_builder(arguments.backbone)
    info = resolve(arguments.backbone, arguments.weights, options)
    (warn if info.kind == "none" else say)(info.sentence)
    return info


def schedule_option(arguments: argparse.Namespace, schedule: Schedule) -> Schedule:
    """Return the schedule of the recipe, with --epochs where it was given."""
    if arguments.epochs is None:
        return schedule
    check_least(arguments, epochs=0 if arguments.recipe == "v2" else 1)
    return replace(schedule, epochs=arguments.epochs)


def check_least(arguments: argparse.Namespace, **least: int) -> None:
    """Refuse numbers below the least that an option takes.

    Raises:
        FracturelabError: There is such a number.
    """
    for name, number in least.items():
        given = getattr(arguments, name)
        if given is not None and given < number:
            raise FracturelabError(f"expected --{name} of at least {number}. Received: {given}")


def check_size(size: int | None) -> None:
    """Refuse a side that no network takes, before any image is read."""
    if size is not None:
        from fracturelab.models.backbones import check_input_size

        check_input_size(size)


def results_folder(arguments: argparse.Namespace) -> Path:
    """Return the folder for records; refuse at once, before hours of work, one that cannot be written."""
    from fracturelab.records import own_folder

    folder: Path = arguments.results or own_folder()
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
