"""Write the pinned requirements anew from the ranges in pyproject.toml (`make pins`).

requirements.txt holds what the notebooks and the command line need, on every supported system and Python; each of the
other files holds what its extra adds. uv resolves for all systems at once, so markers stand where systems differ.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
EXTRAS = {
    "requirements-dev.txt": (("dev",), "What `make test` and `make check` add to requirements.txt."),
    "requirements-app.txt": (("app", "dicom"), "What `make app` adds to requirements.txt."),
    "requirements-dask.txt": (("dask",), "What `--dask` and the workers of a cluster need as well."),
    "requirements-explain.txt": (("explain",), "What LIME and SHAP maps need as well."),
    "requirements-lab.txt": (("lab",), "What `make lab` adds to requirements.txt."),
    "requirements-optional.txt": (("kaggle", "dicom"), "What Kaggle downloads and DICOM files need as well."),
}
HEADER = "# Written by `make pins` from the ranges in pyproject.toml. "


def resolve(extras: list[str], constraints: Path | None = None) -> list[str]:
    """Return the pinned lines for the project with these extras."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "pins.txt")
        command = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--universal", "--python-version", "3.11"]
        command += ["--no-header", "--no-annotate", "--fork-strategy", "fewest", "--output-file", str(out)]
        for extra in extras:
            command += ["--extra", extra]
        if constraints is not None:
            command += ["--constraint", str(constraints)]
        subprocess.run([*command, "pyproject.toml"], cwd=ROOT, check=True)
        return [line for line in out.read_text().splitlines() if line and not line.startswith("#")]


def name(line: str) -> str:
    """Return the package of a pinned line."""
    return line.split("==")[0].strip().lower()


def main() -> None:
    """Resolve everything once, then write one file for each purpose."""
    together = resolve(["cpu", *(extra for extras, _ in EXTRAS.values() for extra in extras)])
    with tempfile.TemporaryDirectory() as folder:
        constraints = Path(folder, "together.txt")
        constraints.write_text("\n".join(together) + "\n")
        base = resolve(["cpu"], constraints)
        known = {name(line) for line in base}
        write("requirements.txt", HEADER + "Python 3.11-3.13, CPU TensorFlow; GPU: see runitlocally.md.", base)
        for file, (extras, purpose) in EXTRAS.items():
            added = [line for line in resolve(["cpu", *extras], constraints) if name(line) not in known]
            write(file, HEADER + purpose, ["-r requirements.txt", *added])


def write(file: str, header: str, lines: list[str]) -> None:
    """Write one requirements file."""
    (ROOT / file).write_text("\n".join([header, *lines]) + "\n")
    print(f"{file}: {len(lines)} lines")


if __name__ == "__main__":
    main()
