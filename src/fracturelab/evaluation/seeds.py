"""Two recipes, each fitted with the same seeds, on the same images: is one better on average over its seeds?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import ArrayLike

from fracturelab.errors import FracturelabError
from fracturelab.evaluation.checks import binary_labels, finite_probabilities, group_codes
from fracturelab.evaluation.intervals import UNDEFINED, Interval
from fracturelab.evaluation.paired import mean_differences
from fracturelab.system.plain import plain


@dataclass(frozen=True)
class SeedsComparison:
    """Recipes a and b, fitted with the same seeds.

    Attributes:
        n: Images.
        n_groups: Independent groups among them.
        aucs_a: ROC AUC of a, one a seed.
        aucs_b: ROC AUC of b, one a seed.
        mean_a: Mean of a over seeds, with its interval over images.
        mean_b: The same of b.
        difference: Mean over seeds of AUC of b minus AUC of a, with its paired interval over images. It is true of
            these seeds; how much seeds differ is in `differences`.
    """

    n: int
    n_groups: int
    aucs_a: tuple[float, ...]
    aucs_b: tuple[float, ...]
    mean_a: Interval
    mean_b: Interval
    difference: Interval

    @property
    def differences(self) -> tuple[float, ...]:
        """AUC of b minus AUC of a, seed by seed."""
        return tuple(b - a for a, b in zip(self.aucs_a, self.aucs_b, strict=True))

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain numbers, ready for JSON."""
        return plain(vars(self))


def compare_seeds(
    labels: ArrayLike,
    a: Sequence[ArrayLike],
    b: Sequence[ArrayLike],
    *,
    groups: ArrayLike | None = None,
    seed: int = 0,
    n_bootstrap: int = 2000,
) -> SeedsComparison:
    """Compare two recipes over seeds on the same images.

    Images are resampled in whole groups, and in each resample every fit of both recipes is scored: the interval holds
    what other images could have shown of these fits. It is widened as that of `compare` is, which says the same of one
    seed.

    Args:
        labels: (n,) 0 normal, 1 fractured.
        a: (n,) P(fractured) of the first recipe, one for each seed.
        b: (n,) P(fractured) of the second recipe, for the same seeds in the same order.
        groups: (n,) patient or near-copy group; None or NA is a group of its own.
        seed: Of the bootstrap.
        n_bootstrap: Resamples of whole groups.

    Returns:
        The comparison; with one class only, everything in it is undefined.

    Raises:
        FracturelabError: No seeds, or not the same number for both; else as in `compare`.
    """
    if not len(a) == len(b) or not len(a):
        raise FracturelabError(f"expected as many fits of one recipe as of the other. Received: {len(a)} and {len(b)}")
    truth = binary_labels(labels)
    first, second = ([finite_probabilities(one, n=len(truth)) for one in fits] for fits in (a, b))
    codes = group_codes(groups, n=len(truth))
    n_groups = int(codes.max()) + 1
    if truth.min() == truth.max():
        return SeedsComparison(len(truth), n_groups, (), (), UNDEFINED, UNDEFINED, UNDEFINED)
    aucs, means, difference = mean_differences(truth, first, second, codes, seed=seed, n_bootstrap=n_bootstrap)
    aucs_a, aucs_b = (tuple(row) for row in aucs.tolist())
    return SeedsComparison(len(truth), n_groups, aucs_a, aucs_b, *means, difference)
