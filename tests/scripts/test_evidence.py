"""Evidence: the learning curve of a frozen probe, its record, and the table made from records."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from fracturelab.errors import FracturelabError
from tests.tiny_backbone import TINY

pytestmark = pytest.mark.usefixtures("tiny")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Sixty-four noisy squares; the fractured ones carry a faint stripe."""
    folder = tmp_path_factory.mktemp("squares")
    rng = np.random.default_rng(0)
    lines = ["path,label,split"]
    for i in range(64):
        pixels = rng.integers(30, 90, (40, 40))
        if i % 2:
            pixels[18:22] += 60
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{i:02d}.png")
        lines.append(f"{i:02d}.png,{'fractured' if i % 2 else 'normal'},{'test' if i < 24 else 'train'}")
    (folder / "labels.csv").write_text("\n".join(lines))
    return folder


@pytest.fixture(scope="module")
def measured(folder, tmp_path_factory):
    from fracturelab.datasets import read_dataset
    from fracturelab.models.weights import resolve
    from fracturelab.training import prepare
    from scripts.evidence import frozen_features, learning_curve

    cache = tmp_path_factory.mktemp("cache")
    prepared = prepare(read_dataset(folder), size=32, cache_dir=False, progress=False)
    weights = resolve(TINY, "none")
    features = frozen_features(prepared, weights, settle=True, store_dir=cache, progress=False)
    curve = learning_curve(prepared, features.means, sizes=(10, 20, 500), draws=3)
    return prepared, weights, curve, features


def test_every_size_has_its_draws_and_all_images_have_one(measured):
    curve = measured[2]
    assert [(row["n"], row["draws"]) for row in curve.summary()] == [(10, 3), (20, 3), (30, 1)]
    assert curve.draws["roc_auc"].between(0, 1).all()
    assert len(curve.probabilities) == 24 and curve.labels.sum() == 12


def test_the_summary_is_the_mean_over_draws(measured):
    curve = measured[2]
    part = curve.draws[curve.draws["n"] == 10]["roc_auc"]
    assert curve.summary()[0]["roc_auc"]["mean"] == pytest.approx(part.mean())
    assert curve.summary()[0]["roc_auc"]["sd"] == pytest.approx(part.std())


def test_the_table_says_what_the_records_hold(measured, tmp_path):
    from scripts.documents import fill_tables
    from scripts.evidence import evidence_table, pooling_table, validation_scores, write_evidence

    prepared, weights, curve, features = measured
    validation = {32: validation_scores(prepared, features)}
    about = {"prepared": prepared, "weights": weights, "seed": 0, "seconds": 1.0, "validation": validation}
    path = write_evidence("toy", curve, **about, folder=tmp_path)
    record = json.loads(path.read_text())
    table = evidence_table([record, {"kind": "training", "name": "other"}])
    assert "toy" in table and "all (30)" in table and "other" not in table
    assert f"{curve.summary()[0]['roc_auc']['mean']:.3f}" in table
    assert f"{record['results']['probe']['metrics']['roc_auc']['low']:.2f}" in table

    pooling = pooling_table([record, {"kind": "training", "name": "other"}]).splitlines()
    difference = validation[32]["difference"]
    means, both = (validation[32][name]["roc_auc"]["value"] for name in ("means", "means and maxima"))
    assert difference["value"] == pytest.approx(both - means)
    assert len(pooling) == 3 and f"{difference['value']:+.3f} ({difference['low']:+.3f}" in pooling[2]

    readme = tmp_path / "README.md"
    readme.write_text("<!-- begin: evidence evidence-t* -->\n<!-- end: evidence evidence-t* -->\n")
    assert fill_tables(readme, [record]) == ["evidence-t*"]
    assert table in readme.read_text()


@pytest.mark.parametrize("settle", [True, False])
def test_a_random_backbone_is_settled_where_that_is_asked_for(measured, monkeypatch, settle):
    from fracturelab.training import features
    from scripts import evidence

    def spread(outputs, prepared, *, rows, **_):
        [part] = outputs.values()
        pooled = np.asarray(part(prepared.images[rows].astype(np.float32), training=False))
        assert (np.median(pooled.std(0)) > 1e-3) == settle  # MobileNet's moments as born: 1e-16
        raise KeyboardInterrupt

    prepared, weights, *_ = measured
    monkeypatch.setattr(features, "compute", spread)
    with pytest.raises(KeyboardInterrupt):
        evidence.frozen_features(
            prepared, replace(weights, backbone="MobileNet", options={"alpha": 0.25}), settle=settle
        )


def test_records_of_other_numbers_of_images_share_a_table():
    from scripts.evidence import evidence_table

    interval = {"value": 0.7, "low": 0.6, "high": 0.8}

    def record(name, *points):
        curve = [{"n": n, "roc_auc": {"mean": 0.7, "sd": sd}} for n, sd in points]
        probe = {"metrics": {"roc_auc": interval, "pr_auc": interval}}
        results = {"input_size": 32, "curve": curve, "probe": probe}
        return {"kind": "evidence", "name": f"evidence-{name}", "results": results}

    table = evidence_table([record("a", (50, 0.1), (420, None)), record("b", (50, None), (400, None))])
    assert "| 50 images | all (400 or 420) |" in table
    assert "| a | 32 | 0.700 ± 0.100 | 0.700 (0.60–0.80) |" in table
    assert "| b | 32 | 0.700 | 0.700 (0.60–0.80) |" in table


def test_maxima_stand_behind_the_means(measured):
    prepared, _, _, features = measured
    means = features.means
    d = means.val.shape[1]
    assert features.val.shape[1] == 2 * d and len(means.train) == 2
    maxima = features.test[:, d:]
    assert (maxima >= means.test - 1e-5).all() and (maxima > means.test + 1e-3).any()
    assert len(features.val) == len(prepared.rows("val"))


def test_no_test_part_is_refused(measured):
    from scripts.evidence import frozen_features

    prepared, weights, *_ = measured
    without = replace(prepared, table=prepared.table.assign(split="train"))
    with pytest.raises(FracturelabError, match="test part"):
        frozen_features(without, weights, progress=False)


def test_a_name_that_no_record_can_have_is_refused_before_any_work(folder, capsys, monkeypatch):
    from scripts import evidence
    from scripts.__main__ import main

    monkeypatch.setattr(evidence, "frozen_features", lambda *args, **keywords: pytest.fail("worked for nothing"))
    assert main(["evidence", str(folder), "--weights", "none", "--size", "32", "--name", "two words"]) == 2
    assert "two words" in capsys.readouterr().err
