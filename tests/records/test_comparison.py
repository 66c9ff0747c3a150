"""One table of everything: who is one model, what is shown once, what stays empty."""

from __future__ import annotations

import json

import matplotlib as mpl
import pandas as pd
import pytest

mpl.use("Agg")

from fracturelab import cli, plots
from fracturelab.records import compare_records, comparison_table, main_scores, read_records, score_table, write_record
from fracturelab.records.comparison import CSV_COLUMNS, SHOWN
from scripts.__main__ import main as scripts_main
from scripts.tables import results_table

NET = {"name": "net", "sha256": "aa"}


def scored(auc: float | None, n: int = 84, **more: float) -> dict:
    values = {"roc_auc": auc, "accuracy": 0.6, **more}
    return {"n": n, "metrics": {name: interval(value) for name, value in values.items()}}


def interval(value: float | None) -> dict:
    low, high = (None, None) if value is None else (value - 0.05, value + 0.05)
    return {"value": value, "low": low, "high": high}


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes records into a folder, each a second later than the one before."""
    from datetime import UTC, datetime, timedelta

    from fracturelab.records import files

    clock = [datetime(2026, 1, 1, tzinfo=UTC)]

    class Clock(datetime):
        @classmethod
        def now(cls, tz=None):
            clock[0] += timedelta(seconds=1)
            return clock[0]

    monkeypatch.setattr(files, "datetime", Clock)

    def one(name: str, kind: str = "training", *, data=None, weights=None, **results):
        data = {"source": "clinic"} if data is None else data
        return write_record(name, kind=kind, data=data, weights=weights, results=results, folder=tmp_path / "results")

    return one


@pytest.fixture
def story(write, tmp_path):
    """Notebooks 02 to 04: two trainings, then both models tested again, one under a name with a space."""
    first = {"validation": scored(0.61), "another source (synthetic)": scored(0.55, 160)}
    write("02-v1", model="v1", evaluations=first, parameters=4000, ms_per_image=2.5)
    write("02-v1-flawed", model="v1-flawed", evaluations={"validation": scored(0.9, 400)})
    write(
        "04-v1",
        "evaluation",
        data={"source": "another source (synthetic)"},
        model="v1",
        evaluations={"another source (synthetic)": scored(0.56, 160), "examples (synthetic)": scored(0.4, 12)},
    )
    write(
        "04-v1-flawed",
        "evaluation",
        data={"source": "another source (synthetic)"},
        model="v1 flawed",
        evaluations={"another source (synthetic)": scored(0.49, 160)},
    )
    write("04-comparison", "comparison", comparisons={})
    write(
        "evaluation-small-fracatlas-test",
        "evaluation",
        weights=NET,
        model="small",
        **scored(0.9, 856),
        data={"source": "fracatlas", "split": "test", "sha256": "bb"},
    )
    return tmp_path / "results"


def auc_of(folder) -> pd.DataFrame:
    table = compare_records(read_records(folder))
    return table[table["metric"] == "roc_auc"]


def test_a_model_tested_twice_on_the_same_images_is_shown_once(story):
    lines = results_table(read_records(story), metrics=["roc_auc"]).splitlines()[2:]
    assert lines == [
        "| v1 | none | validation | 84 | 0.610 (0.56–0.66) |",
        "| v1 | none | another source (synthetic) | 160 | 0.560 (0.51–0.61) |",  # of the newer record
        "| v1 | none | examples (synthetic) | 12 | 0.400 (0.35–0.45) |",
        "| v1-flawed | none | validation | 400 | 0.900 (0.85–0.95) |",
        "| v1-flawed | none | another source (synthetic) | 160 | 0.490 (0.44–0.54) |",
        "| small | net | fracatlas | 856 | 0.900 (0.85–0.95) |",
    ]


def test_training_again_makes_the_older_test_give_way(story, write):
    write("02-v1", model="v1", evaluations={"another source (synthetic)": scored(0.7, 160)})
    scores = score_table(read_records(story))
    assert scores.loc[(scores["model"] == "v1") & (scores["metric"] == "roc_auc"), "value"].tolist() == [0.7, 0.4]


def test_two_trainings_of_one_name_are_two_models_and_a_test_belongs_to_neither(write, tmp_path):
    for name in ("06-a", "06-b"):
        write(name, model="net", evaluations={"validation": scored(0.6)})
    write("07-net", "evaluation", model="net", evaluations={"outside": scored(0.5)})
    auc = auc_of(tmp_path / "results")
    assert auc["record"].tolist() == ["06-a", "06-b", "07-net"]
    assert auc["part"].tolist() == ["validation", "validation", "real world"]
    assert auc["run"].nunique() == 3
    assert results_table(read_records(tmp_path / "results")).count("| validation |") == 2


def test_other_weights_are_another_model(write, tmp_path):
    write("a", model="v2", weights=NET, evaluations={"validation": scored(0.6)})
    write("b", "evaluation", model="v2", evaluations={"outside": scored(0.5)})
    assert auc_of(tmp_path / "results")["run"].nunique() == 2


def test_bundled_weights_are_not_mistaken_for_imagenets(write, tmp_path):
    write("a", model="v2", weights={"name": "resnet50", "kind": "bundled"}, evaluations={"validation": scored(0.6)})
    assert auc_of(tmp_path / "results")["weights"].tolist() == ["bundled resnet50"]
    assert "| v2 | bundled resnet50 | validation |" in results_table(read_records(tmp_path / "results"))


def test_a_model_trained_by_the_command_line_has_its_files_name(write, tmp_path):
    write("training-mine", model="v2", evaluations={"val": scored(0.6), "test": scored(0.65)})
    write(
        "evaluation-mine-ward-all", "evaluation", model="mine", data={"source": "ward", "split": "all"}, **scored(0.5)
    )
    auc = auc_of(tmp_path / "results")
    assert set(auc["model"]) == {"mine"} and auc["run"].nunique() == 1
    assert dict(zip(auc["part"], auc["value"], strict=True)) == {"validation": 0.6, "test": 0.65, "real world": 0.5}


def test_rows_hold_what_records_hold_and_nothing_else(story):
    table = compare_records(read_records(story))
    rows = {row.model: row for row in table.drop_duplicates("run").itertuples()}
    assert list(rows) == ["v1", "v1-flawed", "small"]
    assert (rows["v1"].parameters, rows["v1"].ms_per_image) == (4000, 2.5)
    assert rows["v1"].data == "clinic (synthetic)"
    small = rows["small"]
    assert all(pd.isna(value) for value in (small.data, small.parameters, small.ms_per_image))
    assert small.weights == "net"
    lines = comparison_table(table).splitlines()
    assert lines[2] == (
        "| v1 | clinic (synthetic) | none | ROC AUC | 4,000 | 2.5 |  | 0.610 (0.56–0.66) 84 images |  | "
        "0.560 (0.51–0.61) 160 images, another source (synthetic)<br>"
        "0.400 (0.35–0.45) 12 images, examples (synthetic) |"
    )
    assert lines[4] == "| small |  | net | ROC AUC |  |  |  |  | 0.900 (0.85–0.95) 856 images, fracatlas |  |"
    assert comparison_table(compare_records([])) == ""


def test_a_validation_score_on_the_card_fills_in_for_a_training_without_record(write, tmp_path):
    tested = {"real images": scored(0.5)}
    write("04-v1", "evaluation", model="v1", evaluations=tested, validation_roc_auc=interval(0.7))
    auc = auc_of(tmp_path / "results").set_index("part")
    assert auc.loc["validation", "value"] == 0.7
    assert pd.isna(auc.loc["validation", "n"])
    assert "validation" not in results_table(read_records(tmp_path / "results"))


def test_models_of_many_classes_show_their_accuracy(write, tmp_path):
    one = {"n": 90, "metrics": {"accuracy": interval(0.4), "macro_f1": interval(0.35)}}
    write("05-keras", model="keras", evaluations={"train": one, "val": one, "test": one})
    table = compare_records(read_records(tmp_path / "results"))
    assert set(table.loc[table["main"], "metric"]) == {"accuracy"}
    assert comparison_table(table).count("0.400 (0.35–0.45) 90 images") == 3
    head = results_table(read_records(tmp_path / "results")).splitlines()[0]
    assert head == "| model | weights | tested on | images | accuracy | macro F1 |"


def test_an_undefined_score_is_an_empty_cell(write, tmp_path):
    write("a", model="m", evaluations={"validation": scored(None), "test": scored(0.6)})
    rows = compare_records(read_records(tmp_path / "results"))
    assert comparison_table(rows).splitlines()[2].endswith("|  |  | 0.600 (0.55–0.65) 84 images |  |")
    assert list(main_scores(rows)["ROC AUC"]["m\nclinic (synthetic)"]) == ["test"]


def test_records_of_another_shape_are_no_scores(write, tmp_path):
    write("01-audit", "audit", metrics=[1, 2])
    write("07-folds", "cross-validation", evaluations=[{"metrics": {}}])
    write("08-maps", "explanation", evaluations={"a": 0.5, "b": {"metrics": {"roc_auc": interval(0.6), "share": 0.3}}})
    assert compare_records(read_records(tmp_path / "results"))["metric"].tolist() == ["roc_auc"]


def test_the_table_has_every_metric_of_every_set(story):
    table = compare_records(read_records(story))
    assert len(table) == 2 * 6
    last = table.iloc[-2]
    assert last[["model", "part", "n", "metric", "value"]].tolist() == ["small", "test", 856, "roc_auc", 0.9]
    assert last[["data", "parameters"]].isna().all()


def test_synthetic_elsewhere_is_no_real_world_in_the_picture(story):
    scores = main_scores(compare_records(read_records(story)))
    assert list(scores["ROC AUC"]["v1\nclinic (synthetic)"]) == ["validation", "elsewhere (synthetic)"]
    ax = plots.score_forests(scores, parts=SHOWN, references={"ROC AUC": 0.5}).axes[0]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["validation", "test", "elsewhere (synthetic)"]
    assert [text.get_text() for text in ax.texts] == ["0.61", "0.56", "0.90", "0.49", "0.90"]
    assert [tick.get_text().split("\n")[0] for tick in ax.get_yticklabels()] == ["v1", "v1-flawed", "small"]
    ax.figure.canvas.draw()
    box, (width, height) = ax.figure.get_tightbbox(), ax.figure.get_size_inches()
    assert box.x0 > -0.02
    assert box.x1 < width + 0.02
    assert box.y1 < height + 0.02


def test_the_command_writes_three_files_and_a_readme_is_filled(story, tmp_path, capsys):
    out = tmp_path / "out"
    assert cli.main(["compare", "--reports", str(tmp_path), "--out", str(out), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [model["model"] for model in found["models"]] == ["v1", "v1-flawed", "small"]
    assert found["models"][0]["tested"][0]["metrics"]["roc_auc"]["value"] == 0.61
    table = (out / "comparison.md").read_text()
    assert table == comparison_table(compare_records(read_records(story)))
    csv = (out / "comparison.csv").read_text().splitlines()
    assert csv[0] == ",".join(CSV_COLUMNS)
    assert csv[-2].startswith("small,,net,,,test,fracatlas,856,roc_auc,0.9,")
    assert (out / "comparison.png").read_bytes().startswith(b"\x89PNG")
    readme = tmp_path / "README.md"
    readme.write_text(
        "<!-- begin: compare evaluation-* -->\n<!-- end: compare evaluation-* -->\n"
        "<!-- begin: results 04-* -->\n<!-- end: results 04-* -->\n"
    )
    assert scripts_main(["fill", str(readme), "--folder", str(story)]) == 0
    text = readme.read_text()
    assert "| small |  | net | ROC AUC |" in text
    assert "| v1 flawed | none | another source (synthetic) |" in text
    assert "0.610" not in text


def test_the_command_without_records_says_so(tmp_path, capsys):
    assert cli.main(["compare", "--reports", str(tmp_path)]) == 0
    assert "No run records" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []
