"""The notebooks themselves, executed on small settings given through their parameters cell."""

from __future__ import annotations

import ast
import functools
import importlib.util
import inspect
import os
import shutil
import sys
from pathlib import Path

import nbformat
import pytest

from fracturelab.datasets import file_hashes, read_dataset
from fracturelab.evaluation import evaluate
from fracturelab.models.cnn import build_cnn
from fracturelab.models.files import save_model
from fracturelab.phantoms import write_set
from fracturelab.prediction import load_predictor
from fracturelab.records import read_record
from fracturelab.system.folders import MODELS, REPORTS
from fracturelab.training import prepare_with_external
from scripts.notebooks import run_notebook

FOLDER = Path(__file__).resolve().parents[2] / "notebooks"


@pytest.fixture(scope="module")
def xrays(tmp_path_factory) -> Path:
    """Forty small synthetic X-rays, half of them fractured; one file is cut off."""
    folder = write_set(tmp_path_factory.mktemp("data") / "some x-rays", n=41, seed=5, size=72)
    path = sorted((folder / "images").iterdir())[7]
    path.write_bytes(path.read_bytes()[:900])
    return folder


def run(number: str, folder: Path, **parameters: object):
    """Execute a notebook on these settings; what it failed with, its cells' printed text, and its reports folder."""
    [path] = FOLDER.glob(f"{number}_*.ipynb")
    reports = folder / "reports"
    environment = {REPORTS: str(reports), MODELS: str(folder / "models")}
    before = path.read_bytes()
    failure = run_notebook(path, folder / path.name, parameters=parameters, environment=environment, timeout=500)
    assert path.read_bytes() == before  # a run over other data leaves the tracked notebook alone
    outputs = [
        output for cell in nbformat.read(folder / path.name, as_version=4).cells for output in cell.get("outputs", [])
    ]
    said = [output.get("text", "") + "".join(output.get("data", {}).get("text/markdown", "")) for output in outputs]
    return failure, "\n".join(said), reports


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.ipynb")), ids=lambda path: path.stem[:2])
def test_helpers_that_a_notebook_calls_are_there_and_take_what_it_gives(path):
    """The short form of running it: a helper that was renamed, or takes other arguments, is found without training."""
    cells = nbformat.read(path, as_version=4).cells
    tree = ast.parse("\n".join(cell.source for cell in cells if cell.cell_type == "code"))
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and "fracturelab" in node.module]
    names: dict[str, object] = {}
    exec(compile(ast.Module(imports, []), path.name, "exec"), names)
    assigned = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    checked = 0
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        written = ast.unparse(call.func)
        first, *rest = written.split(".")
        if first not in names or first in assigned or not all(word.isidentifier() for word in rest):
            continue
        helper = functools.reduce(getattr, rest, names[first])
        if all(keyword.arg for keyword in call.keywords) and not any(isinstance(a, ast.Starred) for a in call.args):
            try:
                inspect.signature(helper).bind(*call.args, **{keyword.arg: None for keyword in call.keywords})
            except TypeError as error:
                pytest.fail(f"{written}: {error}")
            checked += 1
    assert checked > 10


def test_01_shows_measures_and_records(tmp_path, xrays):
    before = {path: path.read_bytes() for path in sorted(xrays.rglob("*")) if path.is_file()}
    failure, said, reports = run("01", tmp_path, DATA=str(xrays), COPIES=160, ORIGINALS=40, PLACES=8)
    assert failure is None
    assert "41 files, 1 unreadable; " in said
    assert {path: path.read_bytes() for path in sorted(xrays.rglob("*")) if path.is_file()} == before
    results = read_record(reports / "results" / "01-audit.json")["results"]
    assert (results["normal"] + results["fractured"], results["unreadable"]) == (40, 1)
    assert results["found"]["test->train"]["identical"] == results["planted"]["byte-identical copy across the split"]
    remembered = {name: found["metrics"]["accuracy"] for name, found in results["traps"]["remembering"].items()}
    assert remembered["split by image"]["low"] > remembered["split by patient"]["value"]
    figures = sorted(path.name for path in (reports / "figures").glob("01-*.png"))
    assert {"01-quiz.png", "01-examples.png", "01-shortcuts.png", "01-leak-plot.png"} <= set(figures)
    assert str(xrays.parent) not in (tmp_path / "01_explore_the_data.ipynb").read_text().replace(repr(str(xrays)), "")


def saved_model(path: Path, *, seed: int, trained_on: list[str]) -> None:
    import keras

    keras.utils.set_random_seed(seed)
    metrics = {"validation": {"metrics": {"roc_auc": {"value": 0.9, "low": 0.8, "high": 0.95}}}}
    card = {"name": path.stem, "threshold": 0.5, "train_hashes": trained_on, "val_hashes": [], "metrics": metrics}
    card |= {"backbone": None, "data": {"source": "ward"}}
    save_model(build_cnn(input_size=32), path, card)


@pytest.fixture(scope="module")
def models(tmp_path_factory, xrays) -> Path:
    """Three untrained models; by their cards they were trained on the first twelve X-rays."""
    folder = tmp_path_factory.mktemp("saved") / "models"
    hashes = file_hashes(read_dataset(xrays)["path"].tolist())[:12]
    for seed, name in enumerate(("v1-flawed", "v1", "v2")):
        saved_model(folder / "local" / f"{name}.keras", seed=seed, trained_on=hashes)
    return folder


def real_images(folder: Path, kind: str, xrays: Path) -> Path:
    table = read_dataset(xrays).dropna(subset="label")
    table = table.drop(index=7)  # cut off
    rows = {"labelled": table.tail(10), "one class": table[table["label"] == 1].tail(4), "unlabelled": table.tail(3)}[
        kind
    ]
    for number, row in enumerate(rows.itertuples()):
        place = folder if kind == "unlabelled" else folder / ("fractured" if row.label else "normal")
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{number:02d}.png").write_bytes(Path(row.path).read_bytes())
    (folder / ("" if kind == "unlabelled" else "fractured") / "cut.png").write_bytes(Path(row.path).read_bytes()[:300])
    return folder


SHORT = {"TWINS": 4, "FEW": [2], "DRAWS": 1, "TESTS": 4}


@pytest.mark.parametrize(
    "kind", ["labelled", *(pytest.param(kind, marks=pytest.mark.long) for kind in ("one class", "unlabelled"))]
)
def test_04_judges_saved_models_and_ones_own_images(tmp_path, xrays, models, kind):
    shutil.copytree(models, tmp_path / "models")
    if kind == "one class":
        (tmp_path / "models" / "local" / "v1-flawed.keras").unlink()  # this one may be missing
    real = real_images(tmp_path / "real", kind, xrays)
    failure, said, reports = run("04", tmp_path, DATA=str(xrays), REALIMAGES=str(real), **SHORT)
    assert failure is None
    assert "cannot be read and left out: cut.png" in said
    written = {path.stem for path in (reports / "results").glob("04-*.json")}
    assert ("04-v1-flawed" in written) == (kind != "one class")
    assert written >= {"04-v1", "04-v2", "04-fracturelab-small", "04-comparison"}
    tested = read_record(reports / "results" / "04-v1.json")["results"]["evaluations"]["elsewhere"]
    _, held_out = prepare_with_external(xrays, size=32, seed=0)
    probabilities = load_predictor(tmp_path / "models" / "local" / "v1.keras").predict(held_out.images)
    expected = evaluate(held_out.labels, probabilities, threshold=0.5, groups=held_out.groups)
    assert tested["confusion_matrix"] == expected.confusion_matrix
    assert ("threshold 0." in said) == (kind != "unlabelled")
    assert (reports / "figures" / "04-own.png").is_file()


def test_04_runs_with_the_shipped_model_alone(tmp_path, xrays):
    failure, said, reports = run("04", tmp_path, DATA=str(xrays), **SHORT)
    assert failure is None
    assert "not here: leaking v1, v1, v2." in said
    assert "12 synthetic examples" in said
    written = {path.stem for path in (reports / "results").glob("04-*.json")}
    assert written == {"04-fracturelab-small", "04-comparison"}


@pytest.fixture(scope="module")
def types(tmp_path_factory) -> Path:
    """Synthetic X-rays of all ten fracture types, in folders as the public set has them."""
    made = write_set(tmp_path_factory.mktemp("types") / "made", per_kind=9, seed=6, size=64, zoom=4.0, difficulty=0.0)
    folder = made.parent / "Bone Break Classification"
    for kind, rows in read_dataset(made).groupby("kind"):
        for number, path in enumerate(rows["path"]):
            name = "Fracture Dislocation" if "dislocation" in kind else f"{kind.title()} fracture"
            part = folder / name / ("Test" if number < 2 else "Train")
            part.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, part / Path(path).name)
    return folder


def hide(package: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let kernels that start from here on find no such package; a notebook must not try to import it."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(
        "import importlib.util as util\nfind = util.find_spec\n"
        f"util.find_spec = lambda name, package=None: None if name == {package!r} else find(name, package)\n"
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), *sys.path]))


@pytest.mark.long
@pytest.mark.parametrize("torch", ["as it is", "missing"])
def test_05_trains_and_scores_fracture_types(tmp_path, types, torch, monkeypatch):
    if torch == "missing":
        hide("torch", tmp_path / "hidden", monkeypatch)
    short = {"SIZE": 32, "EPOCHS": 1, "BACKBONE": ["ResNet50", "none"], "TRANSFER_SIZE": 32}
    failure, said, reports = run("05", tmp_path, DATA=str(types), **short)
    assert failure is None
    with_torch = torch != "missing" and importlib.util.find_spec("torch") is not None
    assert ("PyTorch is not installed" in said) == (not with_torch)
    found = {path.stem: read_record(path)["results"] for path in (reports / "results").iterdir()}
    assert set(found) == {"05-types-keras", "05-types-pretrained"} | ({"05-types-pytorch"} if with_torch else set())
    for results in found.values():
        scores = results["evaluations"]["test"]
        assert scores["n"] == sum(map(sum, scores["confusion_matrix"])) == 20
    assert (reports / "figures" / "05-matrix.png").is_file()


@pytest.mark.long
def test_09_teaches_a_student_of_ones_own_x_rays(tmp_path, xrays):
    failure, said, reports = run("09", tmp_path, DATA=str(xrays), SIZE=32, TEACHER_SIZE=48, EPOCHS=1)
    assert failure is None
    found = read_record(reports / "results" / "09-distillation.json")["results"]
    alone, taught = (found["evaluations"][f"CNN {way}"]["metrics"]["roc_auc"]["value"] for way in ("alone", "taught"))
    assert found["difference"]["difference"]["value"] == pytest.approx(taught - alone)
    assert "AUC on validation X-rays" in said
    assert {"09-curves.png", "09-seeds.png"} <= {path.name for path in (reports / "figures").glob("09-*.png")}
