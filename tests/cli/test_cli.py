"""The command line: what people type, what they read, what machines parse, and what bad input leads to."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fracturelab import __version__, cli
from fracturelab.cli.output import columns, number, print_json, show_warning
from fracturelab.prediction.predictor import NO_LIKENESS
from fracturelab.records import write_record
from fracturelab.system.plain import plain

METRICS = {"roc_auc", "pr_auc", "accuracy", "precision", "recall", "specificity", "f1", "kappa", "brier"}


def picture(seed: int, *, bright: bool = False, size: tuple[int, int] = (48, 40)) -> Image.Image:
    """A smooth picture of its own; a bright one has a stripe that a small network can learn."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 160, (6, 6), dtype=np.uint8))
    pixels = np.asarray(coarse.resize(size, Image.Resampling.BICUBIC)).copy()
    if bright:
        pixels[:, size[0] // 3 : size[0] // 3 + 6] = 250
    return Image.fromarray(pixels)


def dataset(folder: Path, *, n: int = 48, first: int = 0) -> Path:
    """Class folders, half of the pictures fractured."""
    for i in range(n):
        label = "fractured" if i % 2 else "normal"
        (folder / label).mkdir(parents=True, exist_ok=True)
        picture(first + i, bright=bool(i % 2)).save(folder / label / f"{i:03d}.png")
    return folder


def everything(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def refused(capsys, *argv: str) -> str:
    """Run a command that must be refused with one line, and return that line."""
    code = cli.main([str(word) for word in argv])
    said = capsys.readouterr()
    assert code == 2
    assert said.out == ""
    lines = [line for line in said.err.splitlines() if line.startswith("fracturelab")]
    assert len(lines) == 1, said.err
    assert "Traceback" not in said.err
    return lines[0]


def document(capsys, *argv: str, code: int = 0):
    """Run a command with --json and return what it printed, which must be one JSON document."""
    assert cli.main([*(str(word) for word in argv), "--json"]) == code
    return json.loads(capsys.readouterr().out)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A small v1 with a data set, and a second set it has not seen."""
    home = tmp_path_factory.mktemp("cli")
    data = dataset(home / "xrays")
    model = home / "models" / "small.keras"
    argv = ["train", "v1", "--data", str(data), "--out", str(model), "--size", "32", "--epochs", "3", "--seed", "4"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)  # checkpoints go to reports/ of the working folder
        assert cli.main([*argv, "--results", str(home / "results"), "--json"]) == 0
    return {"home": home, "data": data, "model": model, "outside": dataset(home / "outside", n=20, first=1000)}


# --- what stands before any command ---------------------------------------------------------------------------------


def test_help_lists_every_command_and_imports_nothing_heavy():
    code = (
        "import sys; from fracturelab import cli; print(cli.build_parser().format_help());"
        "heavy = {'numpy', 'pandas', 'tensorflow', 'keras', 'sklearn', 'matplotlib', 'PIL'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for command in ("audit", "train", "evaluate", "predict", "realimages", "phantoms", "fetch", "results"):
        assert f"\n    {command}" in done.stdout
    assert "Not for clinical use" in done.stdout


def test_the_installed_command_and_the_module_are_the_same():
    for start in ([sys.executable, "-m", "fracturelab"], [str(Path(sys.executable).with_name("fracturelab"))]):
        done = subprocess.run([*start, "--version"], capture_output=True, text=True, check=True)
        assert done.stdout == f"fracturelab {__version__}\n"


def test_the_command_alone_shows_one_screen_of_commands_by_purpose(capsys):
    assert cli.main([]) == 0
    shown = capsys.readouterr().out
    assert shown == cli.build_parser().format_help()
    assert len(shown.splitlines()) <= 30 and max(map(len, shown.splitlines())) <= 120
    assert shown.index("images:") < shown.index("    audit") < shown.index("training:") < shown.index("    train ")


def test_a_warning_is_one_line_and_comes_once(capsys, monkeypatch):
    monkeypatch.setattr(warnings, "showwarning", show_warning)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        for _ in range(2):
            warnings.warn("this was read\n  twice", stacklevel=1)
    assert capsys.readouterr().err == "warning: this was read twice\n"


@pytest.mark.parametrize(
    "argv", [["frobnicate"], ["train", "v3"], ["predict", "m.keras"], ["audit", "x", "--seed", "s"]]
)
def test_wrong_arguments_are_one_line_and_exit_code_2(argv, capsys):
    with pytest.raises(SystemExit) as left:
        cli.main(argv)
    assert left.value.code == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert "--help" in said.err


def test_interruption_and_system_errors_become_exit_codes(monkeypatch, capsys, tmp_path):
    def stop(arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli.data, "run_audit", stop)
    assert cli.main(["audit", str(tmp_path)]) == 130
    assert capsys.readouterr().err == "fracturelab: interrupted\n"

    def full(arguments):
        print("chatter of a library")
        raise OSError(28, "No space left on device", "reports/x.json")

    monkeypatch.setattr(cli.data, "run_audit", full)
    line = refused(capsys, "audit", tmp_path)
    assert "No space left on device: reports/x.json" in line

    def without(arguments):
        import tensorflow_is_not_here  # noqa: F401

    monkeypatch.setattr(cli.data, "run_audit", without)
    assert "tensorflow_is_not_here" in refused(capsys, "audit", tmp_path)


# --- output ------------------------------------------------------------------------------------------------------


def test_json_has_null_for_what_is_undefined_and_survives_odd_file_names(capsys):
    print_json(
        {
            "a": math.nan,
            "b": np.float32("inf"),
            "c": np.int64(3),
            "d": np.array([1.5]),
            "e": Path("x"),
            "f": "scan\udcff.png",
            "g": (True, None),
            "h": {1},
        }
    )
    parsed = json.loads(capsys.readouterr().out)
    assert parsed == {
        "a": None,
        "b": None,
        "c": 3,
        "d": [1.5],
        "e": "x",
        "f": "scan\udcff.png",
        "g": [True, None],
        "h": [1],
    }
    assert isinstance(parsed["c"], int)
    assert plain(np.bool_(True)) is True


def test_columns_are_aligned_and_missing_numbers_are_a_dash():
    assert columns([["", "value"], ["AUC", "1"]], align="lr") == "     value\nAUC      1"
    assert (number(None), number(math.nan), number(0.12345)) == ("-", "-", "0.123")


# --- bad input -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["audit", "evaluate", "train", "realimages"])
def test_folders_that_cannot_be_used(command, trained, in_empty_folder, tmp_path, capsys):
    empty, texts, unknown = tmp_path / "empty", tmp_path / "texts", tmp_path / "unknown"
    for folder in (empty, texts, unknown / "a", unknown / "b"):
        folder.mkdir(parents=True)
    (texts / "notes.txt").write_text("no image")
    picture(1).save(unknown / "a" / "1.png")
    picture(2).save(unknown / "b" / "2.png")
    before = everything(tmp_path)
    start = {
        "audit": ["audit"],
        "evaluate": ["evaluate", trained["model"]],
        "train": ["train", "v1", "--out", "m.keras", "--data"],
        "realimages": ["realimages", "--from"],
    }[command]
    assert "an empty folder" in refused(capsys, *start, empty)
    assert "none an image (1 .txt)" in refused(capsys, *start, texts)
    line = refused(capsys, *start, unknown)
    assert "--label-names" in line
    assert "'a' unknown (1 images)" in line
    assert "nowhere" in refused(capsys, *start, tmp_path / "nowhere")
    assert "Received: 'sick'" in refused(capsys, *start, unknown, "--label-names", "sick")
    assert everything(tmp_path) == before


def test_one_class_only_cannot_be_trained_on(in_empty_folder, tmp_path, capsys):
    (tmp_path / "data" / "fractured").mkdir(parents=True)
    for i in range(6):
        picture(i).save(tmp_path / "data" / "fractured" / f"{i}.png")
    line = refused(capsys, "train", "v1", "--data", tmp_path / "data", "--out", "m.keras", "--size", "32")
    assert "none of them normal" in line
    assert not Path("m.keras").exists()


def test_model_files_that_are_none(trained, in_empty_folder, tmp_path, capsys):
    image = tmp_path / "a.png"
    picture(5).save(image)
    text, archive = tmp_path / "text.keras", tmp_path / "zip.keras"
    text.write_text("not a model")
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("hello.txt", "hello")
    for model in (text, archive, tmp_path / "missing.keras", tmp_path):
        for argv in (["predict", model, image], ["evaluate", model, trained["outside"]]):
            assert str(model) in refused(capsys, *argv)


@pytest.mark.parametrize("command", ["train", "evaluate"])
def test_a_results_folder_that_cannot_be_written(command, trained, in_empty_folder, tmp_path, capsys):
    blocked = tmp_path / "a file"
    blocked.write_text("in the way")
    argv = {
        "train": ["train", "v1", "--data", trained["data"], "--out", "m.keras", "--size", "32", "--epochs", "1"],
        "evaluate": ["evaluate", trained["model"], trained["outside"]],
    }[command]
    line = refused(capsys, *argv, "--results", blocked / "results")
    assert "cannot be written" in line
    assert str(blocked) in line
    assert blocked.read_text() == "in the way"
    assert not Path("m.keras").exists()


def test_options_that_do_not_fit(trained, in_empty_folder, capsys):
    train = ["train", "v1", "--data", trained["data"], "--out"]
    assert ".keras" in refused(capsys, *train, "model.h5")
    assert "v2 only" in refused(capsys, *train, "m.keras", "--weights", "none")
    assert "--epochs of at least 1. Received: 0" in refused(capsys, *train, "m.keras", "--epochs", "0")
    assert "from 32 to 2048 pixels. Received: 3" in refused(capsys, *train, "m.keras", "--size", "3")
    Path("m.keras").write_text("finished")
    assert "add --force" in refused(capsys, *train, "m.keras")
    assert Path("m.keras").read_text() == "finished"
    Path("m.keras").unlink()
    v2 = ["train", "v2", "--data", trained["data"], "--out", "m.keras"]
    assert "alpha=0.75" in refused(capsys, *v2, "--backbone-option", "alpha")
    assert "--epochs of at least 0. Received: -1" in refused(capsys, *v2, "--epochs", "-1")
    assert "did you mean ResNet50?" in refused(capsys, *v2, "--backbone", "Resnet50")
    assert "Received: 1.5" in refused(capsys, "evaluate", trained["model"], trained["outside"], "--threshold", "1.5")


def test_weights_that_were_asked_for_by_name_and_cannot_be_had(trained, in_empty_folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("FRACTURELAB_OFFLINE", "1")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "no keras"))
    v2 = ["train", "v2", "--data", trained["data"], "--out", "m.keras", "--backbone", "MobileNetV2"]
    assert "ImageNet weights" in refused(capsys, *v2, "--weights", "imagenet")
    assert "no such weights file" in refused(capsys, *v2, "--weights", tmp_path / "w.h5")
    assert not Path("m.keras").exists()


# --- the commands ----------------------------------------------------------------------------------------------------


def test_audit_reports_what_was_planted(in_empty_folder, tmp_path, capsys):
    root = tmp_path / "set"
    for part, count, first in (("train", 24, 0), ("test", 12, 500)):
        dataset(root / part, n=count, first=first)
    (root / "test" / "normal" / "copy.png").write_bytes((root / "train" / "normal" / "000.png").read_bytes())
    picture(0).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(root / "test" / "normal" / "mirrored.png")
    whole = (root / "train" / "fractured" / "001.png").read_bytes()
    (root / "train" / "fractured" / "cut.png").write_bytes(whole[: len(whole) // 2])
    before = everything(tmp_path)
    found = document(capsys, "audit", root)
    assert everything(tmp_path) == before
    keys = {"images", "unreadable", "exact_duplicates", "near_duplicate_groups", "label_conflicts", "cross_split"}
    assert keys | {"shortcuts", "verdict"} <= set(found)
    assert [Path(item["path"]).name for item in found["unreadable"]] == ["cut.png"]
    assert found["unreadable"][0]["reason"]
    assert found["cross_split"]["test->train"] == {"of": 14, "identical": 1, "near": 2}
    assert found["cross_split"]["train->test"] == {"of": 24, "identical": 1, "near": 1}
    for key in ("exact_duplicates", "near_duplicate_groups", "label_conflicts"):
        assert isinstance(found[key], int)
    assert found["exact_duplicates"] >= 1
    assert isinstance(found["verdict"], str)
    assert cli.main(["audit", str(root)]) == 0
    text = capsys.readouterr().out
    assert "cut.png" in text
    assert "1 identical, 2 near, of 14" in text


def test_training_writes_a_model_a_card_and_a_record(trained, capsys):
    card = json.loads(trained["model"].with_suffix(".json").read_text())
    assert card["kind"] == "v1"
    assert 0 <= card["threshold"] <= 1
    assert card["input_size"] == 32
    assert len(card["train_hashes"]) == card["data"]["parts"]["train"]["n"] > 20
    (record,) = (trained["home"] / "results").glob("*.json")
    written = json.loads(record.read_text())
    assert written["kind"] == "training"
    assert set(written["data"]["train_hashes"]) == set(card["train_hashes"])
    assert written["results"]["evaluations"]["test"]["metrics"]["roc_auc"]["value"] is not None
    assert str(trained["home"]) not in record.read_text() + trained["model"].with_suffix(".json").read_text()


def test_one_seed_one_result(trained, in_empty_folder, capsys):
    argv = ["train", "v1", "--data", trained["data"], "--size", "32", "--epochs", "2", "--seed", "7"]
    first = document(capsys, *argv, "--out", "first.keras")
    second = document(capsys, *argv, "--out", "second.keras")
    other = document(capsys, *argv[:-1], "8", "--out", "third.keras")
    assert first["evaluations"] == second["evaluations"]
    assert first["threshold"] == second["threshold"]
    assert first["candidates"] != other["candidates"]
    assert not list(Path("reports").glob("checkpoints/*"))


def test_evaluate_gives_the_promised_keys_and_the_scores_of_its_predictions(trained, in_empty_folder, capsys):
    from sklearn.metrics import roc_auc_score

    outside = trained["outside"]
    found = document(capsys, "evaluate", trained["model"], outside)
    assert found["n"] == 20
    assert set(found["metrics"]) == METRICS
    for interval in found["metrics"].values():
        assert set(interval) == {"value", "low", "high"}
        assert interval["value"] is None or interval["low"] <= interval["value"] <= interval["high"]
    rows = document(capsys, "predict", trained["model"], outside)
    truth = ["fractured" in Path(row["path"]).parts for row in rows]
    scores = [row["p_fracture"] for row in rows]
    assert found["metrics"]["roc_auc"]["value"] == pytest.approx(roc_auc_score(truth, scores), abs=1e-9)
    called = [row["label"] == "fractured" for row in rows]
    table = [[0, 0], [0, 0]]
    for actual, said in zip(truth, called, strict=True):
        table[actual][said] += 1
    assert found["confusion_matrix"] == table
    assert Path(found["record"]).parent == in_empty_folder / "reports" / "runs" / "results"
    assert cli.main(["evaluate", str(trained["model"]), str(outside)]) == 0
    text = capsys.readouterr().out
    assert "Not for clinical use." in text
    assert "called fractured" in text


def test_evaluations_of_other_images_are_other_records_and_of_the_same_images_one(
    trained, in_empty_folder, tmp_path, capsys
):
    def recorded(folder):
        path = Path(document(capsys, "evaluate", trained["model"], folder)["record"])
        return path, json.loads(path.read_text())["data"]["sha256"]

    folders = [
        dataset(tmp_path / name, n=6, first=5000 + 10 * i)
        for i, name in enumerate(("骨折", "рентген", "A/xrays", "B/xrays"))
    ]
    found = dict(map(recorded, folders))
    assert len(found) == 4
    assert all(path.stem.endswith(f"-all-{sha256[:8]}") for path, sha256 in found.items())
    assert dict(map(recorded, folders)).keys() == found.keys()
    # One that is called as earlier versions did is replaced by its own images, and by no others.
    path, sha256 = recorded(folders[2])
    write_record(
        "evaluation-small-xrays-all", kind="evaluation", results={}, data={"sha256": sha256}, folder=path.parent
    )
    assert recorded(folders[2])[0].stem == "evaluation-small-xrays-all"
    assert recorded(folders[3])[0] in found


def test_evaluate_warns_of_images_the_model_was_trained_on(trained, in_empty_folder, capsys):
    assert cli.main(["evaluate", str(trained["model"]), str(trained["data"]), "--json"]) == 0
    said = capsys.readouterr()
    found = json.loads(said.out)
    trained_on = len(json.loads(trained["model"].with_suffix(".json").read_text())["train_hashes"])
    assert found["split"] == "all"
    assert f"was trained on {trained_on} of these 48 images" in " ".join(found["warnings"])
    assert "warning: The model was trained on" in said.err
    unseen = document(capsys, "evaluate", trained["model"], trained["data"], "--split", "unseen")
    assert 0 < unseen["n"] < 48 - trained_on + 1
    assert "trained on" not in " ".join(unseen["warnings"])


def test_evaluate_takes_the_test_part_where_there_is_one(trained, in_empty_folder, tmp_path, capsys):
    root = tmp_path / "published"
    dataset(root / "train", n=10, first=2000)
    dataset(root / "test", n=6, first=3000)
    assert document(capsys, "evaluate", trained["model"], root)["n"] == 6
    assert document(capsys, "evaluate", trained["model"], root, "--split", "all")["n"] == 16
    assert document(capsys, "evaluate", trained["model"], root, "--split", "train")["split"] == "train"
    assert "'val'" in refused(capsys, "evaluate", trained["model"], root, "--split", "val")


def test_evaluate_of_one_class_has_null_where_nothing_is_defined(trained, in_empty_folder, tmp_path, capsys):
    root = tmp_path / "one"
    (root / "normal").mkdir(parents=True)
    for i in range(4):
        picture(4000 + i).save(root / "normal" / f"{i}.png")
    found = document(capsys, "evaluate", trained["model"], root)
    assert found["metrics"]["roc_auc"] == {"value": None, "low": None, "high": None}
    assert found["metrics"]["recall"]["value"] is None
    assert found["metrics"]["specificity"]["value"] is not None


def test_predict_has_a_row_for_each_file_and_answers_where_it_can(trained, tmp_path, capsys):
    good, text, empty = tmp_path / "good.png", tmp_path / "text.jpg", tmp_path / "empty.png"
    picture(9).save(good)
    text.write_text("no image at all")
    empty.write_bytes(b"")
    files = [good, text, empty, tmp_path / "missing.png"]
    rows = document(capsys, "predict", trained["model"], *files)
    assert [row["path"] for row in rows] == [str(path) for path in files]
    assert set(rows[0]) == {"path", "p_fracture", "label", "threshold"}
    assert 0 <= rows[0]["p_fracture"] <= 1
    for row in rows[1:]:
        assert set(row) == {"path", "error"}
        assert row["error"]
    assert len(document(capsys, "predict", trained["model"], *files[1:], code=2)) == 3
    assert cli.main(["predict", str(trained["model"]), *map(str, files)]) == 0
    text = capsys.readouterr().out
    assert text.count("error") == 3
    assert "Not for clinical use." in text


def test_command_line_python_and_reloaded_model_agree(trained, capsys):
    from fracturelab.images import load_images
    from fracturelab.models.files import load_model
    from fracturelab.prediction import load_predictor

    rows = document(capsys, "predict", trained["model"], trained["outside"])
    said = np.array([row["p_fracture"] for row in rows])
    pixels = load_images([row["path"] for row in rows], 32)
    python = np.asarray(load_predictor(trained["model"]).predict(pixels), dtype=float)
    model = load_model(trained["model"])
    kept = model.predict(np.asarray(pixels, dtype="float32"), verbose=0)[:, 0]
    assert np.abs(said - python).max() < 1e-6
    assert np.abs(said - kept).max() < 1e-5
    assert said.std() > 0


def test_predicting_in_a_process_of_its_own_says_the_answer_and_nothing_else(trained):
    image = str(next((trained["outside"] / "normal").iterdir()))
    command = [sys.executable, "-m", "fracturelab", "predict", str(trained["model"]), image]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stderr == f"note: {NO_LIKENESS}\n"
    head, row, last = done.stdout.splitlines()
    assert head.split() == ["P(fractured)", "file"]
    assert row.endswith(image)
    assert last.startswith("fractured from ") and last.endswith(" on. Not for clinical use.")


def test_v2_trains_from_random_weights_and_says_so(trained, in_empty_folder, capsys):
    argv = ["train", "v2", "--data", trained["data"], "--out", "v2.keras", "--backbone", "MobileNetV2", "--json"]
    argv += ["--backbone-option", "alpha=0.35", "--weights", "none", "--size", "64", "--epochs", "0"]
    assert cli.main([str(word) for word in argv]) == 0
    said = capsys.readouterr()
    found = json.loads(said.out)
    assert "RANDOM WEIGHTS" in said.err
    assert found["weights"]["name"] == "none"
    assert found["weights"]["options"] == {"alpha": 0.35}
    assert document(capsys, "evaluate", "v2.keras", trained["outside"])["n"] == 20


def test_phantoms_are_written_with_their_truth_and_read_back(in_empty_folder, capsys):
    found = document(
        capsys, "phantoms", "--out", "made", "--n", "6", "--source", "field", "--size", "96", "--seed", "3"
    )
    assert found == {"folder": found["folder"], "n": 6, "source": "field", "seed": 3}
    lines = Path("made/labels.csv").read_text().splitlines()
    assert len(lines) == 7
    assert document(capsys, "audit", "made")["images"] == 6
    before = everything(Path("made"))
    assert "nothing there is overwritten" in refused(capsys, "phantoms", "--out", "made", "--n", "6")
    assert everything(Path("made")) == before


def test_phantoms_take_a_range_of_zoom_and_of_difficulty(in_empty_folder, capsys):
    document(
        capsys,
        "phantoms",
        "--out",
        "made",
        "--n",
        "2",
        "--size",
        "96",
        "--zoom",
        "1.3",
        "3",
        "--difficulty",
        "0",
        "0.6",
    )
    recipe = json.loads(Path("made/phantoms.json").read_text())
    assert (recipe["zoom"], recipe["difficulty"]) == ([1.3, 3.0], [0.0, 0.6])
    for low, high, said in (("0.5", "0.1", "a pair (low, high)"), ("0", "2", "difficulty of at most 1")):
        assert said in refused(capsys, "phantoms", "--out", "other", "--n", "2", "--difficulty", low, high)
        assert not Path("other").exists()


def test_results_show_the_records_and_fill_the_tables_of_a_readme(trained, in_empty_folder, capsys):
    from scripts.__main__ import main

    document(capsys, "evaluate", trained["model"], trained["outside"])
    readme = Path("README.md")
    readme.write_text(
        "# Title\n\n<!-- begin: results evaluation-small-* -->\nold\n<!-- end: results evaluation-small-* -->\n"
        "\n<!-- begin: results nothing-* -->\n<!-- end: results nothing-* -->\n"
    )
    found = document(capsys, "results")
    assert found["records"] == 1
    folder = ["--folder", str(Path("reports/runs/results"))]
    assert main(["fill", "README.md", *folder, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["filled"] == {"README.md": ["evaluation-small-*", "nothing-*"]}
    text = readme.read_text()
    auc = found["rows"][0]["metrics"]["roc_auc"]["value"]
    assert f"{auc:.3f}" in text
    assert "old" not in text
    assert "No run has been recorded yet." in text
    assert main(["fill", "README.md", *folder]) == 0
    assert readme.read_text() == text


def test_results_without_records_say_so(in_empty_folder, capsys):
    assert cli.main(["results"]) == 0
    assert "No run records" in capsys.readouterr().out
