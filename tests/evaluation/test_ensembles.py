"""Averages of several models, and the member that validation calls the best."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from fracturelab.errors import FracturelabError
from fracturelab.evaluation import average, best_member, compare


def members(n: int = 200):
    rng = np.random.default_rng(0)
    labels = np.arange(n) % 2
    return labels, {name: 1 / (1 + np.exp(-(1.2 * labels + rng.normal(size=n)))) for name in "abcd"}


def test_members_that_err_apart_are_better_together():
    labels, found = members()
    together = average(found)
    np.testing.assert_allclose(together, np.mean(list(found.values()), axis=0))
    best = best_member(labels, found)
    assert roc_auc_score(labels, found[best]) == max(roc_auc_score(labels, p) for p in found.values())
    assert compare(labels, found[best], together, threshold_a=0.5, threshold_b=0.5).difference.low > 0
    copies = dict.fromkeys("abc", found[best])
    np.testing.assert_allclose(average(copies), found[best])  # members that err together gain nothing


def test_what_cannot_be_is_refused():
    labels, found = members()
    with pytest.raises(FracturelabError, match="at least two members"):
        average({"a": found["a"]})
    with pytest.raises(FracturelabError):
        average({"a": found["a"], "b": found["b"][1:]})
    with pytest.raises(FracturelabError, match="both classes"):
        best_member(np.ones(len(labels), int), found)
