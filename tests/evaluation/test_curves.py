import numpy as np
import pytest
from scipy.stats import binom, binomtest
from sklearn import calibration as sk_calibration
from sklearn import metrics as sk

from fracturelab.errors import FracturelabError
from fracturelab.evaluation import calibration_curve, evaluate, precision_recall_curve, roc_curve


@pytest.fixture(scope="module")
def scored():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 150)
    return labels, np.round(1 / (1 + np.exp(-(rng.normal(size=150) + labels - 0.5))), 2)


def test_roc_is_scikit_learns(scored):
    labels, p = scored
    found = roc_curve(labels, p)
    x, y, thresholds = sk.roc_curve(labels, p, drop_intermediate=False)
    assert found.x == pytest.approx(x)
    assert found.y == pytest.approx(y)
    assert found.thresholds == pytest.approx(thresholds)
    assert found.area == evaluate(labels, p, threshold=0.5).metrics["roc_auc"]


def test_precision_recall_is_scikit_learns(scored):
    labels, p = scored
    found = precision_recall_curve(labels, p)
    precision, recall, _ = sk.precision_recall_curve(labels, p)
    assert found.x[1:] == pytest.approx(recall[-2::-1])
    assert found.y[1:] == pytest.approx(precision[-2::-1])
    assert found.area.value == pytest.approx(sk.average_precision_score(labels, p))
    assert found.share == pytest.approx(labels.mean())


@pytest.mark.parametrize("curve", [roc_curve, precision_recall_curve])
def test_bands_hold_the_curve_and_widen_with_groups(curve, scored):
    labels, p = scored
    alone = curve(labels, p)
    assert (alone.low <= alone.high).all()
    assert alone.low.min() >= 0
    assert alone.high.max() <= 1
    grouped = curve(np.repeat(labels, 4), np.repeat(p, 4), groups=np.repeat(np.arange(150), 4))
    ungrouped = curve(np.repeat(labels, 4), np.repeat(p, 4))
    assert (grouped.high - grouped.low).mean() > 1.5 * (ungrouped.high - ungrouped.low).mean()


def test_a_perfect_curve_of_four_images_has_a_band():
    found = roc_curve([0, 0, 1, 1], [0.1, 0.2, 0.8, 0.9])
    assert found.low[50] == pytest.approx(binomtest(2, 2).proportion_ci(method="wilson").low)
    assert found.high[50] == 1


@pytest.mark.parametrize("curve", [roc_curve, precision_recall_curve])
def test_one_class_has_no_curve(curve):
    with pytest.raises(FracturelabError, match="both classes"):
        curve([1, 1], [0.2, 0.3])


@pytest.mark.parametrize("strategy", ["uniform", "quantile"])
def test_calibration_is_scikit_learns_with_wilson_intervals(scored, strategy):
    labels, _ = scored
    p = np.random.default_rng(1).uniform(size=150)
    found = calibration_curve(labels, p, n_bins=5, strategy=strategy)
    observed, predicted = sk_calibration.calibration_curve(labels, p, n_bins=5, strategy=strategy)
    assert found.observed == pytest.approx(observed)
    assert found.predicted == pytest.approx(predicted)
    assert found.counts.sum() == 150
    first = binomtest(round(found.observed[0] * found.counts[0]), int(found.counts[0])).proportion_ci(method="wilson")
    assert (found.low[0], found.high[0]) == pytest.approx((first.low, first.high))


def test_calibration_error_by_hand():
    # Bins [0, 0.1): 0.05 against 0, two images; [0.9, 1]: 0.95 and 1.0 against one half, two images.
    assert calibration_curve([0, 0, 1, 0], [0.05, 0.05, 0.95, 1.0]).ece == pytest.approx((0.05 + 0.475) / 2)
    assert calibration_curve([1, 1], [1.0, 1.0]).ece == 0


def test_few_images_show_a_calibration_error_by_chance():
    p = np.full(20, 0.5)
    found = calibration_curve(np.repeat([0, 1], 10), p, n_bins=1)
    # The mean distance of a share of 20 tosses from one half.
    exact = sum(binom.pmf(k, 20, 0.5) * abs(k / 20 - 0.5) for k in range(21))
    assert found.ece == 0 and found.ece_calibrated == pytest.approx(exact, rel=0.15)
    many = np.random.default_rng(0).uniform(size=20_000)
    assert calibration_curve(many > 0.5, many).ece_calibrated < 0.02
    assert calibration_curve([1, 1], [1.0, 1.0]).ece_calibrated == 0


def test_calibration_of_equal_probabilities_and_a_wrong_strategy():
    found = calibration_curve([0, 1], [0.4, 0.4], strategy="quantile")
    assert found.observed.tolist() == [0.5]
    with pytest.raises(ValueError, match="Received: 'equal'"):
        calibration_curve([0, 1], [0.4, 0.4], strategy="equal")
