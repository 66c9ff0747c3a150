"""The command line: thin commands over the same functions that the notebooks call.

Each group of commands stands in its own module and adds itself to the parser. Nothing heavy is imported before a
command runs, so that `--help` and an error in the arguments answer at once. Results go to stdout, all else to stderr.

Exit codes: 0 done, 2 something given cannot be used (one line says what), 130 interrupted.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from fracturelab import __version__
from fracturelab.cli import data, evaluate, folds, models, results
from fracturelab.cli.output import print_json, say, show_warning
from fracturelab.errors import FracturelabError

DESCRIPTION = "Finding fractures in bone X-rays, and finding out whether the score is true. Not for clinical use."


PURPOSES = {
    "images": ("audit", "fetch", "phantoms", "realimages"),
    "training": ("train", "cross-validate", "export"),
    "answers and scores": ("predict", "evaluate"),
    "what was measured": ("results", "compare"),
}
"""The commands by what one wants."""


class _Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line, and whose help groups commands by purpose."""

    def format_help(self) -> str:
        if self._subparsers is None:
            return super().format_help()
        subparsers: Any = self._subparsers._group_actions[0]
        helps = {command.dest: command.help for command in subparsers._choices_actions}
        known = {command for commands in PURPOSES.values() for command in commands}
        groups = {**PURPOSES, "commands": tuple(name for name in helps if name not in known)}
        lines = [DESCRIPTION, "", f"usage: {self.prog} COMMAND ..."]
        for purpose, commands in groups.items():
            shown = [f"    {name:<15} {helps[name].replace('%%', '%')}" for name in commands if name in helps]
            lines += ["", f"{purpose}:", *shown] if shown else []
        first = ["", "first try:", f"    {self.prog} predict models/fracturelab-small.keras yours.png"]
        lines += first if "predict" in helps else []
        return "\n".join([*lines, "", f"{self.prog} COMMAND --help shows a command's options. --version", ""])

    def error(self, message: str) -> NoReturn:
        say(f"{self.prog}: error: {message} (see {self.prog} --help)")
        raise SystemExit(2)


def build_parser(
    groups: Sequence[Any] = (data, models, evaluate, folds, results), prog: str = "fracturelab"
) -> argparse.ArgumentParser:
    """Return the parser with the commands of every group: a module with `add_commands`."""
    parser = _Parser(prog=prog, description=DESCRIPTION)
    parser.add_argument("--version", action="version", version=f"fracturelab {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", parser_class=_Parser)
    for group in groups:
        group.add_commands(commands)
    return parser


def main(argv: Sequence[str] | None = None, parser: argparse.ArgumentParser | None = None) -> int:
    """Run one command.

    Args:
        argv: The arguments after the program's name; those of the process when None.
        parser: What reads them; `build_parser()` when None.

    Returns:
        The exit code.
    """
    parser = parser or build_parser()
    arguments = parser.parse_args(argv)
    if not hasattr(arguments, "command"):
        parser.print_help()
        return 0
    _quiet_tensorflow()
    try:
        # Whatever a library prints goes to stderr: stdout holds the result alone.
        with contextlib.redirect_stdout(sys.stderr):
            command: Callable[[argparse.Namespace], tuple[object, str, int]] = arguments.command
            document, text, code = command(arguments)
        if isinstance(document, dict) and hasattr(arguments, "reading"):
            document["reading"] = arguments.reading
        if arguments.json:
            print_json(document)
        else:
            print(text)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except KeyboardInterrupt:
        say("fracturelab: interrupted")
        return 130
    except FracturelabError as error:
        return _refuse(str(error))
    except OSError as error:
        where = f": {error.filename}" if error.filename else ""
        return _refuse(f"{error.strerror or error}{where}. Check the path, its permissions and the space on the disk.")
    except ModuleNotFoundError as error:
        return _refuse(f"the package {error.name} is not installed. Install it with: {_remedy(error.name or '')}")
    except MemoryError:
        return _refuse("not enough memory for this. Try a smaller --size, fewer images, or close other programs.")


def run() -> NoReturn:
    """Run one command and leave the process with its exit code."""
    warnings.showwarning = show_warning
    raise SystemExit(main())


def _refuse(message: str) -> int:
    say("fracturelab: error: " + " ".join(message.split()))
    return 2


_REMEDIES = {
    "tensorflow": '-e ".[cpu]" (or ".[gpu]"; see runitlocally.md)',
    "kagglehub": "-r requirements/optional.txt",
    "pptx": "-r requirements/slides.txt",
    "optuna": "-r requirements/tune.txt",
    "torch": "-r requirements/torch.txt",
    "dask": "-r requirements/dask.txt",
    "distributed": "-r requirements/dask.txt",
}


def _remedy(package: str) -> str:
    return "pip install " + _REMEDIES.get(package.split(".")[0], "-r requirements.txt")


def _quiet_tensorflow() -> None:
    """Keep TensorFlow's own messages out of a person's sight, unless asked for in the environment."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
