"""Execute one notebook, and say in short what went wrong."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from fracturelab.errors import FracturelabError
from fracturelab.system.folders import REPORTS, reports_folder

CORE = ("01", "02", "03", "04")
"""Numbers of the notebooks that tell the story from end to end."""

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_MENDABLE = ("FracturelabError", "UnreadableImageError")


class Failure(NamedTuple):
    """What a notebook failed with.

    Attributes:
        cell: Number of the cell, from 1, in the notebook as it was run.
        source: Its first lines.
        name: Class of the exception.
        message: What it said.
        mendable: Whether it is something the user gave that cannot be used.
    """

    cell: int
    source: str
    name: str
    message: str
    mendable: bool


def find_notebooks(folder: str | Path, *, only: Sequence[str] = (), everything: bool = False) -> list[Path]:
    """List numbered notebooks in order.

    Args:
        folder: Where they lie.
        only: Numbers or name beginnings, such as "04"; all `CORE` ones if empty.
        everything: All that are there.

    Raises:
        FracturelabError: There is none, or none of one that was asked for.
    """
    found = sorted(Path(folder).glob("[0-9][0-9]_*.ipynb"))
    wanted = tuple(only) or (() if everything else CORE)
    for beginning in only:
        if not any(path.name.startswith(beginning) for path in found):
            names = ", ".join(path.stem for path in found) or "none"
            raise FracturelabError(f"expected a notebook among {names}. Received: {beginning}")
    chosen = [path for path in found if not wanted or path.name.startswith(wanted)]
    if not chosen:
        raise FracturelabError(f"expected notebooks such as 01_*.ipynb in {folder}. Received: none")
    return chosen


def run_notebook(
    path: str | Path,
    out: str | Path,
    *,
    parameters: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] | None = None,
    timeout: float | None = None,
    on_cell: Callable[[int, int], None] | None = None,
) -> Failure | None:
    """Execute a notebook from a clean kernel of this Python and write the result, whole or not at all.

    Its pictures go to the folder of figures; see `save_pictures`.

    Args:
        path: The notebook.
        out: Where the executed notebook goes; after a failure it holds the cells up to the one that failed, unless it
            is the notebook itself, which then stays as it was.
        parameters: What to set after the cell tagged `parameters`.
        environment: Environment variables of the kernel, on top of this process's.
        timeout: Seconds that one cell may take; no limit if None.
        on_cell: Called with the number of the cell that starts, from 1, and the number of cells.

    Returns:
        None, or what it failed with.

    Raises:
        FracturelabError: It is no notebook, a parameter does not fit, or the result cannot be written.
    """
    import nbformat
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

    from fracturelab.system.files import write_text
    from scripts.notebooks.cells import save_pictures, tidy, with_parameters

    path, out = Path(path), Path(out)
    try:
        notebook = nbformat.read(path, as_version=4)
    except (OSError, ValueError) as error:
        raise FracturelabError(f"{path}: cannot be read as a notebook ({error})") from error
    notebook = with_parameters(notebook, parameters or {})
    total = len(notebook.cells)
    reached = 0

    def starts(cell: Any, cell_index: int) -> None:
        nonlocal reached
        reached = cell_index
        if on_cell is not None:
            on_cell(cell_index + 1, total)

    failure = None
    os.environ.setdefault("JUPYTER_PREFER_ENV_PATH", "1")  # this environment's kernel, not another of its name
    with tempfile.TemporaryDirectory(prefix="fracturelab-ipython-") as ipython, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        client = NotebookClient(
            notebook,
            kernel_name="python3",
            timeout=timeout,
            record_timing=False,
            store_widget_state=False,
            coalesce_streams=True,
            extra_arguments=["--log-level=ERROR"],
            resources={"metadata": {"path": str(path.parent.resolve())}},
            on_cell_start=starts,
        )
        try:
            # What a cell prints comes back through the notebook; the process's own stderr holds TensorFlow's greetings.
            client.execute(env={**os.environ, **_clean(ipython), **(environment or {})}, stderr=subprocess.DEVNULL)
        except CellExecutionError as error:
            message = " ".join(_COLOUR.sub("", error.evalue).split())
            source = notebook.cells[reached].source
            failure = Failure(reached + 1, source, error.ename, message, error.ename in _MENDABLE)
        except (CellTimeoutError, DeadKernelError) as error:
            name = "timeout" if isinstance(error, CellTimeoutError) else "the kernel died (out of memory?)"
            failure = Failure(reached + 1, notebook.cells[reached].source, name, str(error).splitlines()[0], False)
    if failure is None:
        reports = Path((environment or {}).get(REPORTS) or reports_folder())
        save_pictures(notebook, reports / "figures", prefix=path.name[:2])
    if failure is None or out.resolve() != path.resolve():
        write_text(out, nbformat.writes(tidy(notebook)) + "\n")
    return failure


def _clean(ipython: str) -> dict[str, str]:
    """Environment of a kernel that knows no settings of the user, and says nothing that changes from run to run."""
    return {
        "IPYTHONDIR": ipython,
        "PYTHONHASHSEED": "0",
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "PASSIVE"),  # two notebooks share the cores
        "TF_CPP_MIN_LOG_LEVEL": os.environ.get("TF_CPP_MIN_LOG_LEVEL", "3"),
        "TQDM_DISABLE": "1",
    }
