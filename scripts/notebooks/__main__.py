"""`python -m scripts.notebooks`: what `make notebooks` calls."""

from __future__ import annotations

import argparse
import os
import re
import shutil
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import nbformat
from joblib import cpu_count

from fracturelab.cli.options import read_values
from fracturelab.errors import FracturelabError
from fracturelab.system.folders import MODELS, REPORTS, models_folder, project_folder, realimages_folder, reports_folder
from scripts.notebooks.cells import parameter_names
from scripts.notebooks.parallel import Task, run_together
from scripts.notebooks.running import Failure, find_notebooks

LARGEST = 1_000_000
TRAINING = ("02", "03")
REAL_IMAGES = "04"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the notebooks.

    Returns:
        0; 1 when a notebook failed, 2 when something given cannot be used, 130 when interrupted.
    """
    parser = argparse.ArgumentParser(prog="make notebooks", description="Run the notebooks from a clean kernel.")
    parser.add_argument("--data", type=Path, help="folder of your own X-rays; the embedded default without it")
    parser.add_argument("--only", default="", help="numbers of notebooks, such as 01,04; 01 to 04 without it")
    parser.add_argument("--all", action="store_true", help="every notebook there is")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="another parameter")
    parser.add_argument("--folder", type=Path, help="where the notebooks lie")
    parser.add_argument("--jobs", type=int, default=0, metavar="N", help="notebooks at once (default 2)")
    parser.add_argument("--timeout", type=float, metavar="SECONDS", help="longest time for one cell")
    arguments = parser.parse_args(argv)
    try:
        return run_all(arguments)
    except KeyboardInterrupt:
        print("\ninterrupted; notebooks that were not finished are as they were", file=sys.stderr)
        return 130
    except (FracturelabError, OSError) as error:
        print(f"fracturelab: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2


def run_all(arguments: argparse.Namespace) -> int:
    """Run the chosen notebooks, and say what came out."""
    folder = arguments.folder or project_folder() / "notebooks"
    paths = find_notebooks(folder, only=re.findall(r"[\w-]+", arguments.only), everything=arguments.all)
    parameters = _parameters(arguments)
    if arguments.all and "DATA" in parameters:
        left_out = [path for path in paths if "DATA" not in parameter_names(nbformat.read(path, as_version=4))]
        paths = [path for path in paths if path not in left_out]
        for path in left_out:
            print(f"{path.stem} needs the synthetic X-rays and is left out.")
    environment: dict[str, str] = {}
    reports = run = reports_folder()
    apart: list[Path] = []  # notebooks that are run as copies, because what they show must not end up in a commit
    if parameters:
        apart, run = paths, _run_folder(arguments.data)
        environment = {REPORTS: str(run), MODELS: str(_models(run, paths))}
        print(f"A run of its own: notebooks, figures and results go to {_short(run)}")
    else:
        print("The embedded default: synthetic X-rays, rendered here. Notebooks are run in place.")
        apart = [path for path in paths if path.name.startswith(REAL_IMAGES)] if _own_real_images() else []
        if apart:
            run = _run_folder(realimages_folder())
            environment = {REPORTS: str(run)}
            print(f"realimages/ holds X-rays of your own: what shows them goes to {_short(run)}")
    began, clock = datetime.now(UTC), time.perf_counter()
    tasks = []
    for number, path in enumerate(paths, 1):
        out, extra = (run / path.name, environment) if path in apart else (path, {})
        tasks.append(Task(number, path, out, parameters, extra, arguments.timeout))
    failed = _with_progress(tasks, jobs=max(arguments.jobs, 0) or min(2, cpu_count()))
    if failed is not None:
        task, failure = failed
        _explain(failure, task.path, None if task.out == task.path else task.out)
        return 2 if failure.mendable else 1
    outs = [task.out for task in tasks]
    for out in outs:
        if out.stat().st_size > LARGEST:
            print(f"      {out.name} is over 1 MB ({out.stat().st_size / 1e6:.1f} MB)")
    _summarise([reports] * (len(apart) < len(paths)) + [run] * bool(apart), outs, began)
    print(f"\n{time.perf_counter() - clock:.0f} s in all. Not for clinical use.")
    return 0


def _own_real_images() -> bool:
    from fracturelab.prediction.real_images import has_own_images

    return realimages_folder().is_dir() and has_own_images(realimages_folder())


def _parameters(arguments: argparse.Namespace) -> dict[str, Any]:
    parameters: dict[str, Any] = {}
    if arguments.data is not None:
        from fracturelab.datasets import read_dataset

        folder = Path(os.path.abspath(arguments.data.expanduser()))
        read_dataset(folder)  # what cannot be used is said now, in one line
        parameters["DATA"] = str(folder)
    return parameters | read_values("--set", arguments.set)


def _run_folder(data: Path | None) -> Path:
    """Make a new, git-ignored folder for a run over other data than the default."""
    name = re.sub(r"[^A-Za-z0-9.-]+", "-", (data or Path("settings")).absolute().name).strip("-.") or "run"
    runs = reports_folder() / "runs"
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    for attempt in range(100):
        folder = runs / (f"{name}-{stamp}" + (f"-{attempt}" if attempt else ""))
        try:
            folder.mkdir(parents=True)
            return folder
        except FileExistsError:
            continue
    raise FracturelabError(f"{runs}: no new folder could be made there")


def _models(run: Path, paths: Sequence[Path]) -> Path:
    """Models of a run: its own where it trains, else those of the last run over the same data, else the project's."""
    if any(path.name.startswith(TRAINING) for path in paths):
        return run / "models"
    name = run.name[: re.search(r"-\d{8}-\d{6}", run.name).start()]  # type: ignore[union-attr]
    earlier = sorted(path for path in run.parent.glob(f"{name}-[0-9]*/models") if any(path.rglob("*.keras")))
    return earlier[-1] if earlier else models_folder()


def _with_progress(tasks: Sequence[Task], *, jobs: int) -> tuple[Task, Failure] | None:
    """Run the notebooks, a line each as it ends, and in a terminal one below that says which cells are being run."""
    live = sys.stdout.isatty()
    width = shutil.get_terminal_size().columns - 1
    running: dict[str, str] = {}

    def show(line: str, end: str) -> None:
        print(f"\r{line[:width]:<{width}}" if live else line, end=end, flush=True)

    def on_cell(task: Task, cell: int, cells: int) -> None:
        running[task.path.stem] = f"{task.path.stem} cell {cell} of {cells}"
        if live:
            show("  ".join(running.values()), "")

    failed = None
    for task, failure, seconds in run_together(tasks, jobs=jobs, on_cell=on_cell):
        running.pop(task.path.stem, None)
        said = "failed" if failure else "done"
        show(f"[{task.number}/{len(tasks)}] {task.path.stem:<32} {said}, {seconds:.0f} s", "\n")
        if failure is not None and failed is None:
            failed = task, failure
    return failed


def _explain(failure: Failure, path: Path, copy: Path | None) -> None:
    """Say in short which cell failed and with what."""
    if failure.mendable:
        print(f"fracturelab: error: {failure.message}", file=sys.stderr)
    else:
        lines = failure.source.splitlines()
        shown = [*lines[:8], f"... ({len(lines) - 8} more lines)"] if len(lines) > 8 else lines
        print(f"\n{path.name}, cell {failure.cell}:", file=sys.stderr)
        print("\n".join(f"    {line}" for line in shown), file=sys.stderr)
        print(f"{failure.name}: {failure.message[:600]}", file=sys.stderr)
    if copy is not None:
        print(f"The notebook up to there: {_short(copy)}", file=sys.stderr)


def _summarise(reports: Sequence[Path], notebooks: Sequence[Path], began: datetime) -> None:
    """Name the places to look at, and show the main numbers of the records that this run wrote."""
    from fracturelab.cli.results import evaluated, scores_text
    from fracturelab.records import read_records

    began = began.replace(microsecond=0)
    records = [record for place in reports for record in read_records(place / "results")]
    rows = evaluated(record for record in records if datetime.fromisoformat(record["created"]) >= began)
    rows = [row for row in rows if (row["metrics"].get("roc_auc") or {}).get("value") is not None]
    if rows:
        print("\n" + scores_text(rows))
    print("\nWhere to look:")
    for notebook in notebooks:
        print(f"  {_short(notebook)}")
    for place in reports:
        for name, what in (("figures", "figures"), ("results", "run records")):
            if (place / name).is_dir():
                print(f"  {_short(place / name)}  ({what})")


def _short(path: Path) -> str:
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


if __name__ == "__main__":
    raise SystemExit(main())
