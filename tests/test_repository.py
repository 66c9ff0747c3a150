"""The repository as a whole: what must stand in it, and what must never."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from fracturelab import __version__

ROOT = Path(__file__).resolve().parents[1]
TEXTS = {".py", ".md", ".txt", ".toml", ".yml", ".yaml", ".cff", ".json", ".ipynb", ".csv", ".cfg", ".sh", ""}
SKIPPED = {
    ".git",
    ".venv",
    "__pycache__",
    ".pytest_cache",
    ".mypy_cache",
    ".ruff_cache",
    ".hypothesis",
    "build",
    "dist",
}


def tracked() -> list[Path]:
    """Files that git tracks; without git, all that are not ignored by name."""
    if (ROOT / ".git").exists():
        done = subprocess.run(["git", "-C", str(ROOT), "ls-files", "-z"], capture_output=True, check=False)
        if done.returncode == 0:
            names = [name for name in done.stdout.decode().split("\0") if name]
            return [ROOT / name for name in names if (ROOT / name).is_file()]
    own = ("data", "realimages", "models", "reports")
    found = [path for path in ROOT.rglob("*") if path.is_file() and not SKIPPED & set(path.relative_to(ROOT).parts)]
    return [path for path in found if path.relative_to(ROOT).parts[0] not in own or path.suffix == ".md"]


def texts() -> dict[Path, str]:
    return {path: path.read_text(encoding="utf-8") for path in tracked() if path.suffix in TEXTS}


def notebooks() -> list[Path]:
    return [path for path in tracked() if path.suffix == ".ipynb"]


@pytest.mark.parametrize(
    "name",
    [
        "README.md",
        "runitlocally.md",
        "CONTRIBUTING.md",
        "CHANGELOG.md",
        "CITATION.cff",
        "LICENSE",
        "Makefile",
        "pyproject.toml",
        "requirements.txt",
        ".ci/run",
        ".github/workflows/ci.yml",
        ".pre-commit-config.yaml",
        "data/README.md",
        "models/README.md",
        "realimages/README.md",
        "docs/cards/data-mura.md",
        "docs/cards/data-kaggle.md",
    ],
)
def test_what_a_newcomer_looks_for_is_there(name):
    assert (ROOT / name).stat().st_size > 100


def test_no_registry_no_machine_and_no_unfinished_business():
    # Written so that this file does not hold what it forbids.
    forbidden = {
        "a registry's host": r"py" + r"pi\.org|python" + r"hosted\.org|--(extra-)?index" + r"-url|anaconda\.(org|com)",
        "a path of somebody's machine": r"(?<![\w.])/(home|root|Users|mnt|work)" + r"/[\w.]+|[A-Z]:\\+Users",
        "unfinished business": r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X|raise NotImplemented" + r"Error)\b",
    }
    for path, text in texts().items():
        for what, pattern in forbidden.items():
            if "path" in what and path.is_relative_to(ROOT / "tests"):
                continue  # made-up paths, to see that they do not get into a record
            found = re.search(pattern, text)
            assert found is None, f"{path.relative_to(ROOT)} holds {what}: {found[0]}"


def test_everything_is_small_and_nothing_is_a_stray_cache():
    for path in tracked():
        name = path.relative_to(ROOT)
        assert not {"__pycache__", ".ipynb_checkpoints", "runs", "checkpoints"} & set(name.parts), name
        limit = 1_000_000 if path.suffix == ".ipynb" else 2_000_000
        if name.parts[0] != "models":
            assert path.stat().st_size < limit, f"{name} is {path.stat().st_size / 1e6:.1f} MB"


def test_versions_agree():
    citation = (ROOT / "CITATION.cff").read_text()
    assert f"\nversion: {__version__}\n" in citation
    assert f"\n## {__version__}" in (ROOT / "CHANGELOG.md").read_text()


def requirement(line: str) -> tuple[str, str]:
    """Name and what follows it, of a line of requirements."""
    found = re.match(r"([A-Za-z0-9._-]+)(\[[^]]*\])?\s*(.*)", line)
    assert found, line
    return re.sub(r"[-_.]+", "-", found[1]).lower(), found[3]


def pins(name: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in (ROOT / name).read_text().splitlines():
        if line and not line.startswith(("#", "-r ")):
            package, rest = requirement(line)
            found.setdefault(package, []).append(rest)
    return found


def test_every_dependency_has_a_range_a_reason_and_an_exact_pin():
    text = (ROOT / "pyproject.toml").read_text()
    project = tomllib.loads(text)["project"]
    extras = project["optional-dependencies"]
    files = ["requirements.txt", *(f"requirements/{path.name}" for path in (ROOT / "requirements").glob("*.txt"))]
    pinned = {name: {**pins("requirements.txt"), **pins(name)} for name in files}
    wanted = {
        "requirements.txt": project["dependencies"]
        + [one for name in ("cpu", "fast", "formats", "imagenet", "lab") for one in extras[name]],
        "requirements/dev.txt": extras["dev"],
        "requirements/app.txt": extras["app"],
        "requirements/explain.txt": extras["explain"],
        "requirements/slides.txt": extras["slides"],
        "requirements/torch.txt": extras["torch"],
        "requirements/dask.txt": extras["dask"],
        "requirements/tune.txt": extras["tune"],
        "requirements/optional.txt": extras["kaggle"] + extras["export"] + extras["imagenet-small"],
    }
    for file, dependencies in wanted.items():
        for dependency in dependencies:
            package, rest = requirement(dependency)
            assert re.search(r">=[\d.]+,<[\d.]+|==[\d.]+$", rest), f"{dependency} has no range"
            assert package in pinned[file], f"{package} is not pinned in {file}"
    for file, packages in pinned.items():
        for package, versions in packages.items():
            for version in versions:
                assert re.match(r"==[\w.!+]+( ; .+)?$", version), f"{file}: {package}{version} is no exact pin"
    for line in text.split("dependencies = [")[1].split("]")[0].splitlines()[1:-1]:
        assert "#" in line, f"no reason is given: {line.strip()}"


def test_what_is_pinned_is_installed():
    from importlib import metadata

    if Path(sys.prefix).resolve() != (ROOT / ".venv").resolve():
        pytest.skip("another environment than `make setup` makes: its versions need not be the pinned ones")
    for package, versions in pins("requirements.txt").items():
        if len(versions) == 1 and ";" not in versions[0]:
            try:
                assert metadata.version(package)
            except metadata.PackageNotFoundError:
                pytest.fail(f"{package} is pinned but not installed here")


def test_package_imports_only_what_it_declares():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    declared = {requirement(d)[0] for group in (project["dependencies"], *extras.values()) for d in group}
    modules = {"sklearn": "scikit-learn", "PIL": "pillow", "tensorflow": "tensorflow-cpu", "pptx": "python-pptx"}
    # These come with a declared package that cannot work without them.
    brought = {
        "h5py": "keras",
        "traitlets": "nbclient",
        "jupyter_client": "nbclient",
        "cycler": "matplotlib",
        "threadpoolctl": "scikit-learn",
    }
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module or ""]
            for name in {name.split(".")[0] for name in names} - set(sys.stdlib_module_names) - {"fracturelab"}:
                package = brought.get(name, modules.get(name, name.lower()))
                assert package in declared, (
                    f"{path.relative_to(ROOT)} imports {name}, which pyproject.toml does not name"
                )


def test_importing_the_package_imports_nothing_heavy():
    code = "import sys, fracturelab; print(sorted({'numpy', 'pandas', 'tensorflow', 'matplotlib'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_the_kernels_are_the_same_in_every_process():
    """The command line once turned oneDNN on for the processes it started alone: their last digits were others."""
    code = "import os, fracturelab{}; print(os.environ['TF_ENABLE_ONEDNN_OPTS'])"
    clean = {name: value for name, value in os.environ.items() if name != "TF_ENABLE_ONEDNN_OPTS"}
    for module in ("", ".cli", ".training", ".experiments"):
        for given, expected in ((clean, "1"), ({**clean, "TF_ENABLE_ONEDNN_OPTS": "0"}, "0")):
            command = [sys.executable, "-c", code.format(module)]
            done = subprocess.run(command, env=given, capture_output=True, text=True, check=True)
            assert done.stdout.split()[-1] == expected
    changed = [path for path in PACKAGE.rglob("*.py") if "TF_ENABLE_ONEDNN_OPTS" in path.read_text(encoding="utf-8")]
    assert changed == [PACKAGE / "__init__.py"]


def imports(path: Path) -> set[str]:
    """Modules of the project that a module imports, inside functions as well; not those for type checkers alone."""
    names = {module_name(other) for other in PACKAGE.rglob("*.py")}
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typing = [node for node in ast.walk(tree) if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)]
    ignored = {id(inner) for node in typing for inner in ast.walk(node)}
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and id(node) not in ignored:
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                found.add(full if full in names else node.module)
    return {name for name in found if name.split(".")[0] in ("fracturelab", "scripts", "benchmarks")}


PACKAGE = ROOT / "src" / "fracturelab"


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def test_imports_run_one_way():
    """Lower rooms import nothing of higher ones, and no two modules import each other."""
    layers = [
        {"errors", "system"},
        {"images", "phantoms"},
        {"datasets", "splits", "records", "evaluation", "plots"},
        {"models", "pipeline", "audit"},
        {"training", "explanations", "prediction"},
        {"experiments"},
        {"cli"},
    ]
    height = {name: level for level, names in enumerate(layers) for name in names}
    graph = {module_name(path): imports(path) for path in PACKAGE.rglob("*.py")}
    for module, others in graph.items():
        room = module.split(".")[1] if "." in module else ""
        for other in others:
            assert other.startswith("fracturelab"), f"{module} imports {other}"
            if room in height and "." in other:
                assert height[other.split(".")[1]] <= height[room], f"{module} imports {other}"
    for module in graph:
        reached, waiting = set(), list(graph[module])
        while waiting:
            other = waiting.pop()
            if other not in reached:
                reached.add(other)
                waiting += graph.get(other, ())
        assert module not in reached, f"{module} imports itself by way of others"


def test_no_file_is_named_after_a_process():
    # Two containers that share a folder may both run as process 1.
    assert [path for path in (ROOT / "src").rglob("*.py") if "getpid" in path.read_text(encoding="utf-8")] == []


def test_links_in_documents_lead_somewhere():
    for path, text in texts().items():
        if path.suffix == ".md":
            for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
                if not re.match(r"[a-z]+:", link) and not link.endswith(".ipynb"):
                    assert (path.parent / link).exists(), f"{path.relative_to(ROOT)} links to {link}"


def test_what_documents_tell_to_type_exists():
    from fracturelab.cli import build_parser

    commands = set(re.findall(r"^    ([\w-]+)", build_parser().format_help(), re.MULTILINE))
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for path, text in texts().items():
        if path.suffix == ".md":
            for command in re.findall(r"(?:^|`)fracturelab (?!needs)([a-z-]+)", text, re.MULTILINE):
                assert command in commands, f"{path.relative_to(ROOT)}: fracturelab {command}"
            for target in re.findall(r"(?:^|`)make ([a-z-]+)", text, re.MULTILINE):
                assert target in targets, f"{path.relative_to(ROOT)}: make {target}"


def test_readme_shows_the_essentials_in_its_first_screen_and_is_short():
    text = (ROOT / "README.md").read_text()
    screen, results = text.split("## ")[:2]
    assert "Not for clinical use" in screen
    assert "make notebooks" in screen
    assert "make test" in screen
    assert screen.count("![") == 1
    assert results.startswith("Results") and "<!-- begin: headline * -->" in results
    assert len(text.split()) <= 1100


def test_every_page_of_the_documents_is_in_their_index():
    index = (ROOT / "docs" / "README.md").read_text()
    for path in (ROOT / "docs").glob("*.md"):
        assert path.name == "README.md" or f"]({path.name})" in index


def test_readme_map_names_every_room():
    text = (ROOT / "README.md").read_text().split("## Map of the code")[1]
    for path in PACKAGE.iterdir():
        if path.name != "data" and ((path / "__init__.py").exists() or path.stem in ("splits", "pipeline")):
            assert re.search(rf"^  .*\b{path.stem}  ", text, re.MULTILINE), path.name


def test_make_help_lists_every_target_that_people_call():
    done = subprocess.run(["make", "-C", str(ROOT), "--no-print-directory", "help"], capture_output=True, text=True)
    if done.returncode == 127:
        pytest.skip("make is not installed")
    assert done.returncode == 0, done.stderr
    for target in ("notebooks", "notebooks-all", "test", "check", "lab", "app", "readme", "presentation", "clean"):
        assert f"make {target} " in done.stdout


def test_ci_calls_make_test_and_stands_executable():
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & 0o111
    assert script.read_text().rstrip().endswith("make test-everything")
    assert "make test" in (ROOT / ".github" / "workflows" / "ci.yml").read_text()


@pytest.mark.parametrize("path", notebooks(), ids=lambda path: path.stem)
def test_notebooks_are_executed_in_order_on_the_default(path):
    cells = [cell for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]
    code = [cell for cell in cells if "".join(cell["source"]).strip()]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    assert not [output for cell in code for output in cell["outputs"] if output["output_type"] == "error"]
    tags = [tag for cell in cells for tag in cell["metadata"].get("tags", [])]
    assert tags.count("parameters") == 1
    assert "injected-parameters" not in tags
    assert all(len("".join(cell["source"]).splitlines()) <= 30 for cell in cells)
    assert not re.search(r"^\s*class \w+", "\n".join("".join(cell["source"]) for cell in cells), re.MULTILINE)
