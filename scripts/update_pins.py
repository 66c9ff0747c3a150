"""Write the pinned requirements anew from the ranges in pyproject.toml (`make pins`).

requirements.txt holds what the notebooks, JupyterLab and the command line need, on every supported system and Python;
each of the other files holds what its extra adds. uv resolves for all systems at once, so markers stand where
systems differ.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BASE = ["cpu", "fast", "formats", "imagenet", "lab"]
EXTRAS = {
    "requirements/dev.txt": (("dev",), "What `make test` and `make check` add to requirements.txt."),
    "requirements/app.txt": (("app",), "What `make app` adds to requirements.txt."),
    "requirements/dask.txt": (("dask",), "What `--dask` and the workers of a cluster need as well."),
    "requirements/explain.txt": (("explain",), "What LIME and SHAP maps need as well."),
    "requirements/slides.txt": (("slides",), "What `make presentation` adds to requirements.txt."),
    "requirements/tune.txt": (("tune",), "What the search of notebook 09 needs as well."),
    "requirements/torch.txt": (
        ("torch",),
        "What the PyTorch model of notebook 05 and a test of EfficientNet-Lite need as well.",
    ),
    "requirements/optional.txt": (
        ("kaggle", "export", "imagenet-small"),
        "What Kaggle downloads, int8 and EfficientNet-Lite0 need as well.",
    ),
}
# What PyTorch brings along where it is a CUDA build; its own wheel says which, and a CPU build needs none of it.
LEFT_TO_TORCH = ("nvidia-", "cuda-", "triton")
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
    together = resolve([*BASE, *(extra for extras, _ in EXTRAS.values() for extra in extras)])
    with tempfile.TemporaryDirectory() as folder:
        constraints = Path(folder, "together.txt")
        constraints.write_text("\n".join(together) + "\n")
        base = resolve(BASE, constraints)
        known = {name(line) for line in base}
        write("requirements.txt", HEADER + "Python 3.11-3.13, CPU TensorFlow; GPU: see runitlocally.md.", base)
        for file, (extras, purpose) in EXTRAS.items():
            added = [line for line in resolve([*BASE, *extras], constraints) if name(line) not in known]
            added = [line for line in added if not name(line).startswith(LEFT_TO_TORCH)]
            write(file, HEADER + purpose, ["-r ../requirements.txt", *added])


def write(file: str, header: str, lines: list[str]) -> None:
    """Write one requirements file."""
    (ROOT / file).write_text("\n".join([header, *lines]) + "\n")
    print(f"{file}: {len(lines)} lines")


if __name__ == "__main__":
    main()
