import json

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as sk

from fracturelab.errors import FracturelabError
from fracturelab.evaluation import (
    METRICS,
    Interval,
    check_predictions,
    choose_threshold,
    compare,
    conclusion,
    evaluate,
    mcnemar,
    multiclass_metrics,
    study_scores,
    summary_over_seeds,
    verdict,
)
from fracturelab.evaluation.metrics import confusion_scores
from fracturelab.evaluation.resampling import RankedScores, draw_counts


def _scores(n=300, *, seed=0, shift=1.2, ties=False):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, n)
    probabilities = 1 / (1 + np.exp(-(rng.normal(size=n) + shift * (labels - 0.5))))
    return labels, np.round(probabilities, 1) if ties else probabilities


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7])
def test_values_are_scikit_learns(ties, threshold):
    labels, p = _scores(ties=ties)
    said = p >= threshold
    expected = {
        "roc_auc": sk.roc_auc_score(labels, p),
        "pr_auc": sk.average_precision_score(labels, p),
        "accuracy": sk.accuracy_score(labels, said),
        "precision": sk.precision_score(labels, said),
        "recall": sk.recall_score(labels, said),
        "specificity": sk.recall_score(labels, said, pos_label=0),
        "f1": sk.f1_score(labels, said),
        "weighted_f1": sk.f1_score(labels, said, average="weighted"),
        "kappa": sk.cohen_kappa_score(labels, said),
        "brier": sk.brier_score_loss(labels, p),
    }
    found = evaluate(labels, p, threshold=threshold, n_bootstrap=50).metrics
    assert {name: interval.value for name, interval in found.items()} == pytest.approx(expected)
    for name, (value, low, high) in found.items():
        assert low < value < high, name
    matrix = evaluate(labels, p, threshold=threshold, n_bootstrap=10).confusion_matrix
    assert matrix == sk.confusion_matrix(labels, said).tolist()


def test_resampled_scores_are_those_of_the_repeated_images():
    labels, p = _scores(40, ties=True)
    codes = np.repeat(np.arange(20), 2)
    counts = next(draw_counts(codes, n_resamples=5, seed=3))
    assert (counts.sum(axis=1) == 40).all()
    assert (counts[:, ::2] == counts[:, 1::2]).all()
    ranked = RankedScores(labels, p)(counts)
    cells = np.eye(4)[2 * labels + (p >= 0.5)]
    table = confusion_scores((counts @ cells).reshape(-1, 2, 2))
    for row, found in zip(counts.astype(int), ranked, strict=True):
        truth, scores = np.repeat(labels, row), np.repeat(p, row)
        assert found[0] == pytest.approx(sk.roc_auc_score(truth, scores))
        assert found[1] == pytest.approx(sk.average_precision_score(truth, scores))
    repeated = [sk.f1_score(np.repeat(labels, r), np.repeat(p >= 0.5, r)) for r in counts.astype(int)]
    assert table["f1"][:, 1] == pytest.approx(repeated)


def test_json_has_the_promised_keys_and_nothing_else():
    labels, p = _scores(50)
    found = json.loads(json.dumps(evaluate(labels, p, threshold=0.4, n_bootstrap=20).to_dict(), allow_nan=False))
    assert list(found) == ["n", "threshold", "metrics", "confusion_matrix"]
    assert tuple(found["metrics"]) == METRICS
    assert all(set(interval) == {"value", "low", "high"} for interval in found["metrics"].values())
    assert found["n"] == 50 == sum(map(sum, found["confusion_matrix"]))
    record = evaluate(labels, p, threshold=0.4, n_bootstrap=20).to_record()
    assert "weighted_f1" in record["metrics"]
    assert record["n_groups"] == 50


def test_one_seed_one_interval():
    labels, p = _scores(80)
    first, same, other = (evaluate(labels, p, threshold=0.5, seed=s, n_bootstrap=100).metrics for s in (1, 1, 2))
    assert first == same
    assert first["brier"] != other["brier"]


def test_one_class_leaves_undefined_what_is_undefined():
    evaluation = evaluate([1, 1, 1], [0.2, 0.8, 0.9], threshold=0.5)
    undefined = Interval(None, None, None)
    assert evaluation.metrics["roc_auc"] == undefined
    assert evaluation.metrics["pr_auc"] == undefined
    assert evaluation.metrics["specificity"] == undefined
    assert evaluation.metrics["recall"].value == pytest.approx(2 / 3)
    assert evaluation.confusion_matrix == [[0, 0], [1, 2]]
    assert any("AUC is undefined" in warning for warning in evaluation.warnings)
    json.dumps(evaluation.to_dict(), allow_nan=False)


def test_precision_of_a_model_that_finds_nothing_is_undefined():
    found = evaluate([0, 1, 1], [0.1, 0.2, 0.3], threshold=0.5).metrics
    assert found["precision"].value is None
    assert found["recall"].value == 0
    assert found["f1"].value == 0


def test_column_of_probabilities_and_missing_groups_are_taken():
    labels, p = _scores(30)
    groups = pd.Series(["a", "a", *[pd.NA] * 28], dtype="string")
    assert evaluate(labels, p.astype("float32")[:, None], threshold=0.5, groups=groups, n_bootstrap=10).n_groups == 29


@pytest.mark.parametrize(
    ("labels", "p", "message"),
    [
        ([], [], "at least one labelled image"),
        ([0, 2], [0.1, 0.2], "labels 0 .normal. and 1 .fractured.. Received: 2"),
        (pd.Series([0, pd.NA], dtype="Int64"), [0.1, 0.2], "1 without one"),
        ([0, 1], [0.1], "one probability for each of 2"),
        ([0, 1], [0.1, np.nan], "1 of 2 that are not numbers"),
        ([0, 1], [0.1, 3.0], "between 0 and 1"),
    ],
)
def test_wrong_input_is_named(labels, p, message):
    with pytest.raises(FracturelabError, match=message):
        evaluate(labels, p, threshold=0.5)


def test_threshold_and_groups_are_checked():
    with pytest.raises(FracturelabError, match="finite threshold"):
        evaluate([0, 1], [0.1, 0.2], threshold=float("nan"))
    with pytest.raises(FracturelabError, match="one group for each of 2"):
        evaluate([0, 1], [0.1, 0.2], threshold=0.5, groups=["a"])


class TestChooseThreshold:
    @pytest.mark.parametrize("seed", range(5))
    def test_no_threshold_has_a_larger_j(self, seed):
        labels, p = _scores(60, seed=seed, ties=seed % 2 == 0)

        def youden(threshold):
            return np.mean(p[labels == 1] >= threshold) + np.mean(p[labels == 0] < threshold) - 1

        chosen = choose_threshold(labels, p)
        assert chosen not in p
        assert youden(chosen) == pytest.approx(max(youden(t) for t in np.linspace(0, 1.01, 500)), abs=1e-9)

    def test_it_lies_half_way_between_the_classes(self):
        assert choose_threshold([0, 0, 1, 1], [0.1, 0.2, 0.4, 0.9]) == pytest.approx(0.3)

    def test_equally_good_ones_go_to_the_even_one(self):
        # Cuts at 0.2, 0.4, 0.6: J is 0.5, 0, 0.5; evenness too: the nearest to 0.5 wins.
        assert choose_threshold([0, 1, 0, 1], [0.1, 0.3, 0.5, 0.7]) == pytest.approx(0.6)

    @pytest.mark.parametrize(("labels", "p"), [([1, 1], [0.1, 0.9]), ([0, 1], [0.7, 0.7]), ([1, 0], [0.1, 0.9])])
    def test_without_anything_to_choose_from_it_is_one_half(self, labels, p):
        assert choose_threshold(labels, p) == 0.5

    def test_neighbours_one_step_apart_are_told_apart(self):
        low = 0.3
        high = float(np.nextafter(low, 1))
        chosen = choose_threshold([0, 1], [low, high])
        assert low < chosen <= high


def test_mcnemar_is_the_exact_binomial_test():
    labels = np.ones(20, int)
    a, b = np.ones(20, int), np.ones(20, int)
    a[:8], b[8:10] = 0, 0
    found = mcnemar(labels, a, b)
    # 2 against 8 of 10: twice the tail (1 + 10 + 45) / 1024
    assert found == (2, 8, pytest.approx(2 * 56 / 1024))
    assert mcnemar(labels, a, a).p == 1


def test_mcnemar_counts_a_group_once():
    labels = np.ones(6, int)
    a, b = np.array([1, 1, 1, 0, 1, 1]), np.array([0, 0, 0, 1, 0, 1])
    assert mcnemar(labels, a, b)[:2] == (4, 1)
    assert mcnemar(labels, a, b, groups=list("xxxyzz"))[:2] == (2, 1)
    assert mcnemar(labels, a, b, groups=list("xxyyzz"))[:2] == (2, 0)


class TestCompare:
    def test_clear_difference(self):
        labels, a = _scores(400, shift=0.3)
        b = _scores(400, shift=3.0)[1]
        found = compare(labels, a, b, threshold_a=0.5, threshold_b=0.5)
        difference = sk.roc_auc_score(labels, b) - sk.roc_auc_score(labels, a)
        assert found.difference.value == pytest.approx(difference)
        assert found.difference.low > 0
        assert "v2 ranks better than v1 (AUC difference +0." in conclusion(found, names=("v1", "v2"))
        swapped = compare(labels, b, a, threshold_a=0.5, threshold_b=0.5)
        assert swapped.difference == pytest.approx([-found.difference[i] for i in (0, 2, 1)])
        assert "v1 ranks better" in conclusion(swapped, names=("v1", "v2"))
        json.dumps(found.to_dict(), allow_nan=False)

    def test_pairing_makes_it_sharper(self):
        labels, a = _scores(200)
        b = np.clip(a + 0.02 * np.random.default_rng(1).normal(size=200), 0, 1)
        found = compare(labels, a, b, threshold_a=0.5, threshold_b=0.5)
        assert found.difference.width < 0.3 * found.auc_a.width
        assert "No difference" in conclusion(found)

    def test_two_perfect_models_on_four_images_are_not_equal(self):
        found = compare([0, 0, 1, 1], [0.1, 0.2, 0.8, 0.9], [0.2, 0.1, 0.7, 0.6], threshold_a=0.5, threshold_b=0.5)
        assert found.difference.value == 0
        assert found.difference.low < -0.3
        assert found.difference.high > 0.3
        assert conclusion(found).startswith("The interval is too wide to conclude")

    def test_a_model_against_itself(self):
        labels, a = _scores(50)
        found = compare(labels, a, a, threshold_a=0.5, threshold_b=0.5)
        assert found.difference == (0, 0, 0)
        assert "nothing to compare" in conclusion(found)

    def test_one_class(self):
        found = compare([1, 1, 1], [0.2, 0.3, 0.9], [0.6, 0.7, 0.8], threshold_a=0.5, threshold_b=0.5)
        assert found.difference.value is None
        assert found.mcnemar == (0, 2, 0.5)
        assert "AUC is undefined; by right answers, 0 to 2, no difference is shown" in conclusion(found)


@pytest.mark.parametrize(
    ("labels", "p", "words"),
    [
        ([0, 0, 1, 1], [0.1, 0.2, 0.8, 0.9], "not shown to be better than guessing"),
        (np.arange(200) % 2, 0.1 + 0.8 * (np.arange(200) % 2), ": better than guessing."),
        (np.arange(30) % 2, 0.1 + np.roll(np.arange(30) % 2, 1) * 0.8, "worse than guessing"),
        ([1, 1], [0.5, 0.6], "of one class"),
    ],
)
def test_verdict_says_what_is_shown(labels, p, words):
    assert words in verdict(evaluate(labels, p, threshold=0.5, n_bootstrap=50))


def test_wide_interval_is_warned_of():
    evaluation = evaluate([0, 0, 1, 1], [0.1, 0.2, 0.8, 0.9], threshold=0.5)
    assert any("too wide to conclude" in warning for warning in evaluation.warnings)


@pytest.mark.parametrize(
    ("p", "words"),
    [
        ([0.6, 0.7], "All 2 predictions are fractured"),
        ([0.1, 0.2], "All 2 predictions are normal"),
        ([0.3, 0.3], "does not look at the image"),
        ([0.3, np.inf], "1 of 2 predictions are not numbers"),
        ([-1.0, 0.9], "no probabilities"),
        ([], "no predictions"),
    ],
)
def test_suspicious_predictions_are_named(p, words):
    assert any(words in sentence for sentence in check_predictions(p))


def test_ordinary_predictions_pass():
    assert check_predictions([0.2, 0.9]) == []
    assert check_predictions([0.9]) == []


class TestMulticlass:
    names = ("avulsion", "greenstick", "spiral")

    def test_values_are_scikit_learns(self):
        rng = np.random.default_rng(0)
        labels = rng.integers(0, 3, 150)
        p = rng.dirichlet([1, 1, 1], 150) + np.eye(3)[labels] * 0.4
        said = p.argmax(1)
        found = multiclass_metrics(labels, p, class_names=self.names)
        assert found.accuracy.value == pytest.approx(sk.accuracy_score(labels, said))
        assert found.macro_f1.value == pytest.approx(sk.f1_score(labels, said, average="macro"))
        assert found.kappa.value == pytest.approx(sk.cohen_kappa_score(labels, said))
        assert found.confusion_matrix == sk.confusion_matrix(labels, said).tolist()
        recalls = sk.recall_score(labels, said, average=None)
        assert [found.recall[name].value for name in self.names] == pytest.approx(recalls)
        for interval in (found.accuracy, found.macro_f1, found.kappa, *found.recall.values()):
            assert interval.low < interval.value < interval.high
        json.dumps(found.to_dict(), allow_nan=False)

    def test_a_class_without_images_and_a_perfect_score(self):
        found = multiclass_metrics([0, 1], np.eye(3)[:2], class_names=self.names)
        assert found.recall["spiral"].value is None
        assert found.macro_f1.value == 1
        assert found.macro_f1.low < 0.5

    def test_one_answer_for_all_is_warned_of(self):
        found = multiclass_metrics([0, 1, 2], [[0.8, 0.1, 0.1]] * 3, class_names=self.names)
        assert found.warnings == ("All 3 answers are avulsion.",)

    @pytest.mark.parametrize(
        ("labels", "p", "message"),
        [
            ([0, 3], np.ones((2, 3)), "0 to 2"),
            ([0], np.ones((1, 2)), r"shape \(1, 3\)"),
            ([0], [[np.nan] * 3], "finite"),
        ],
    )
    def test_wrong_input_is_named(self, labels, p, message):
        with pytest.raises(FracturelabError, match=message):
            multiclass_metrics(labels, p, class_names=self.names)


class TestStudies:
    def _table(self, **columns):
        table = pd.DataFrame(
            {
                "label": pd.array([1, 1, 0, 0, 1], dtype="Int64"),
                "group": pd.array(["p1", "p1", "p2", "p2", pd.NA], dtype="string"),
                "study": pd.array(["study1", "study1", "study1", pd.NA, pd.NA], dtype="string"),
            }
        )
        return table.assign(**columns)

    def test_a_study_is_the_mean_of_its_images(self):
        found = study_scores(self._table(), [0.2, 0.8, 0.1, 0.3, 0.9])
        assert found["p_fracture"].tolist() == pytest.approx([0.5, 0.1, 0.3, 0.9])
        assert found["images"].tolist() == [2, 1, 1, 1]
        assert found["label"].tolist() == [1, 0, 0, 1]
        assert found["group"].tolist()[:3] == ["p1", "p2", "p2"]

    def test_a_study_of_both_labels_is_refused(self):
        with pytest.raises(FracturelabError, match="both labels in study1"):
            study_scores(self._table(label=pd.array([1, 0, 0, 0, 1], dtype="Int64")), [0.5] * 5)


def test_spread_over_seeds():
    found = summary_over_seeds([0.7, 0.8, None, 0.9, float("nan")])
    assert found == pytest.approx((0.8, 0.1, 0.7, 0.9, 3))
    assert str(found) == "0.800 ± 0.100 (0.700 to 0.900, 3 runs)"
    assert summary_over_seeds([0.7]) == (0.7, None, 0.7, 0.7, 1)
    assert summary_over_seeds([]).mean is None
