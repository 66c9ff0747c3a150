"""`python -m scripts COMMAND`: pretraining, evidence and documents. `python -m scripts --help` lists the commands."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

from fracturelab import cli
from fracturelab.cli.output import show_warning
from scripts import documents, machines, research, turned_copies


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code, as `fracturelab.cli.main` does."""
    return cli.main(argv, cli.build_parser((research, documents, machines, turned_copies), prog="python -m scripts"))


if __name__ == "__main__":
    warnings.showwarning = show_warning
    raise SystemExit(main())
