"""Sanity check of maps (Adebayo et al. 2018, "Sanity checks for saliency maps"): do they depend on the weights?

The weights are shuffled layer by layer, from the output down. A map that does not change shows the edges of the image,
not what the answer depends on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import keras

UNCHANGED = 0.5
"""A mean rank correlation with the shuffled model's maps above this counts as insensitive to the weights."""


@dataclass(frozen=True)
class SanityCheck:
    """How like a method's maps stay while the weights are shuffled.

    Attributes:
        shares: Share of the weighted layers that were shuffled, from the output down.
        correlations: (shares, images) Spearman's rank correlation with the maps of the trained model; 0 for a map
            without heat.
        depends_on_weights: Whether the mean correlation, everything shuffled, is at most `UNCHANGED`.
    """

    shares: tuple[float, ...]
    correlations: NDArray[np.float64]
    depends_on_weights: bool

    def sentence(self, name: str) -> str:
        """One sentence for people; `name` is the method."""
        mean = float(self.correlations[-1].mean())
        if self.depends_on_weights:
            return f"{name} depends on what was learnt: with all weights shuffled its maps correlate by {mean:.2f}."
        return (
            f"{name} hardly changes when all weights are shuffled (rank correlation {mean:.2f}): "
            "it shows the image, not what the answer depends on."
        )


def shuffled(model: keras.Model, *, share: float = 1.0, seed: int = 0) -> keras.Model:
    """A copy of a model with the weights of its last layers shuffled, each array within itself.

    Args:
        model: A built model; it is left as it is.
        share: Share of the layers with weights, counted from the output, 0 to 1.
        seed: Of the shuffling.
    """
    import keras

    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    rng = np.random.default_rng(seed)
    layers = [layer for layer in copy.layers if layer.weights][::-1]
    for layer in layers[: round(share * len(layers))]:
        layer.set_weights([rng.permutation(np.ravel(w)).reshape(np.shape(w)) for w in layer.get_weights()])
    return copy


def sanity_check(
    model: keras.Model,
    explain: Callable[[keras.Model, NDArray], NDArray],
    images: NDArray,
    *,
    shares: Sequence[float] = (0.02, 0.25, 0.5, 1.0),
    seed: int = 0,
) -> SanityCheck:
    """Shuffle a model's weights from the output down and compare the maps.

    Args:
        model: The trained model.
        explain: Model and images to maps (n, h, w), such as `grad_cam`.
        images: (n, size, size, 1), grey levels 0..255.
        shares: Shares of the layers to shuffle, ascending; at least the last layer is.
        seed: Of the shuffling.

    Returns:
        The correlations, and whether the maps depend on the weights.
    """
    from scipy.stats import spearmanr

    weighted = sum(1 for layer in model.layers if layer.weights)
    real = explain(model, images)
    correlations = np.zeros((len(shares), len(images)))
    for row, share in enumerate(shares):
        other = explain(shuffled(model, share=max(share, 1 / weighted), seed=seed), images)
        for number, (before, after) in enumerate(zip(real, other, strict=True)):
            if np.ptp(before) > 0 and np.isfinite(after).all() and np.ptp(after) > 0:
                correlations[row, number] = spearmanr(before.ravel(), after.ravel()).statistic
    return SanityCheck(tuple(shares), correlations, bool(correlations[-1].mean() <= UNCHANGED))
