import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, norm

from fracturelab.evaluation import Interval, auc_score_interval, compare, evaluate, wilson
from fracturelab.evaluation.intervals import effective_size, mover_difference, wilson_bounds
from fracturelab.evaluation.resampling import percentile_interval


@pytest.mark.parametrize(("k", "n"), [(0, 1), (1, 1), (0, 4), (4, 4), (3, 10), (17, 20), (500, 1000)])
def test_wilson_is_scipys(k, n):
    expected = binomtest(k, n).proportion_ci(method="wilson")
    found = wilson(k, n)
    assert found.value == k / n
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_the_percentile_interval_is_the_middle_95_percent_of_what_is_defined():
    scores = np.append(np.random.default_rng(0).permutation(np.arange(1001.0)), [np.nan, np.inf])
    assert percentile_interval(0.5, scores) == Interval(0.5, 25.0, 975.0)
    assert percentile_interval(0.5, np.array([np.nan])) == Interval(0.5, None, None)


def test_wilson_of_nothing_is_undefined_and_of_more_than_all_refused():
    assert wilson(0, 0) == Interval(None, None, None)
    with pytest.raises(ValueError, match="successes=5, n=4"):
        wilson(5, 4)


def test_wilson_bounds_of_many_are_those_of_each():
    low, high = wilson_bounds([0, 3, 0], [4, 10, 0])
    assert (low[1], high[1]) == pytest.approx(wilson(3, 10)[1:])
    assert np.isnan([low[2], high[2]]).all()


@given(auc=st.floats(0, 1), m=st.integers(1, 300), n=st.integers(1, 300))
@settings(max_examples=60, deadline=None)
def test_auc_limits_solve_newcombes_equation(auc, m, n):
    value, low, high = auc_score_interval(auc, m, n)
    assert value == auc
    assert 0 <= low <= auc <= high <= 1
    extra = (m + n) / 2 - 1
    for limit in (low, high):
        if 1e-6 < limit < 1 - 1e-6:
            variance = limit * (1 - limit) * (1 + extra * ((1 - limit) / (2 - limit) + limit / (1 + limit))) / (m * n)
            assert abs(limit - auc) == pytest.approx(norm.ppf(0.975) * variance**0.5, abs=1e-6)


def test_four_images_prove_little():
    metrics = evaluate([0, 0, 1, 1], [0.1, 0.2, 0.8, 0.9], threshold=0.5).metrics
    for name in ("roc_auc", "pr_auc", "recall", "specificity", "precision", "kappa"):
        assert metrics[name].value == 1
        assert metrics[name].high == 1
        assert metrics[name].low < 0.5, name
    assert metrics["accuracy"].low == pytest.approx(binomtest(4, 4).proportion_ci(method="wilson").low)
    assert metrics["brier"].value == pytest.approx(0.025)
    assert metrics["brier"].high > 0.5


def test_a_perfect_score_gets_surer_with_more_images():
    def low(n):
        labels = np.arange(n) % 2
        return evaluate(labels, 0.1 + 0.8 * labels, threshold=0.5, n_bootstrap=50).metrics["roc_auc"].low

    lows = [low(n) for n in (4, 20, 100, 1000)]
    assert lows == sorted(lows)
    assert lows[-1] > 0.98


def _binormal(rng, *, n_groups, size, shift):
    group = np.repeat(np.arange(n_groups), size)
    labels = rng.permutation(np.arange(n_groups) % 2)[group]
    shared = 0.7 if size > 1 else 0.0
    noise = shared * rng.normal(size=n_groups)[group] + (1 - shared**2) ** 0.5 * rng.normal(size=len(group))
    return labels, norm.cdf(noise + shift * (labels - 0.5)), group


@pytest.mark.parametrize(("n_groups", "size"), [(10, 1), (40, 1), (40, 3)])
@pytest.mark.parametrize("auc", [0.75, 0.95])
def test_intervals_cover_the_truth(n_groups, size, auc):
    rng = np.random.default_rng(n_groups + size)
    shift = norm.ppf(auc) * 2**0.5
    right = norm.cdf(shift / 2)  # of both classes at the threshold 0.5
    truth = {
        "roc_auc": auc,
        "accuracy": right,
        "recall": right,
        "precision": right,
        "f1": right,
        "kappa": 2 * right - 1,
    }
    covered = dict.fromkeys(truth, 0)
    for repeat in range(120):
        labels, scores, group = _binormal(rng, n_groups=n_groups, size=size, shift=shift)
        found = evaluate(labels, scores, threshold=0.5, groups=group, n_bootstrap=200, seed=repeat).metrics
        for name, value in truth.items():
            # A precision that is undefined, with nothing called fractured, claims nothing.
            covered[name] += found[name].low is None or found[name].low <= value <= found[name].high
    # 95% of 120 is 114; below 105 is a chance of 3 in 10,000.
    assert {name: hits for name, hits in covered.items() if hits < 105} == {}


def test_groups_of_copies_are_worth_one_image_each():
    rng = np.random.default_rng(0)
    labels, scores, _ = _binormal(rng, n_groups=200, size=1, shift=1.0)
    once = evaluate(labels, scores, threshold=0.5).metrics
    copied = evaluate(
        np.repeat(labels, 5), np.repeat(scores, 5), threshold=0.5, groups=np.repeat(np.arange(200), 5)
    ).metrics
    fooled = evaluate(np.repeat(labels, 5), np.repeat(scores, 5), threshold=0.5).metrics
    for name in ("roc_auc", "accuracy", "recall", "f1", "brier"):
        assert copied[name].value == pytest.approx(once[name].value)
        assert copied[name].width == pytest.approx(once[name].width, rel=0.15)
        assert fooled[name].width < 0.6 * once[name].width


def test_effective_size_is_between_groups_and_images():
    rng = np.random.default_rng(1)
    codes, every = np.repeat(np.arange(100), 4), np.ones(400, bool)
    independent = rng.normal(size=400)
    assert effective_size(independent - independent.mean(), every, codes) > 250
    together = np.repeat(rng.normal(size=100), 4)
    assert effective_size(together - together.mean(), every, codes) == pytest.approx(100, rel=0.05)
    assert effective_size(np.zeros(400), every, codes) == 100
    assert effective_size(independent[:40], every[:40], codes[:40]) == 10


def test_mover_of_independent_proportions_is_newcombes():
    # Newcombe (1998), "Interval estimation for the difference between independent proportions", example 56/70 - 48/80.
    found = mover_difference(wilson(48, 80), wilson(56, 70))
    assert found == pytest.approx((0.2, 0.0524, 0.3339), abs=5e-5)


def test_paired_intervals_cover_the_difference():
    rng = np.random.default_rng(5)
    covered = 0
    for repeat in range(100):
        labels = np.arange(60) % 2
        shared, one, two = rng.normal(size=(3, 60)) * 0.5**0.5
        a = norm.cdf(shared + one + labels * norm.ppf(0.75) * 2**0.5)
        b = norm.cdf(shared + two + labels * norm.ppf(0.88) * 2**0.5)
        low, high = compare(labels, a, b, threshold_a=0.5, threshold_b=0.5, seed=repeat).difference[1:]
        covered += low <= 0.13 <= high
    assert covered >= 87  # below it: 3 in 10,000 for a true 95%
