"""LIME (Ribeiro et al. 2016) through its own library. Needs the extra `fracturelab[explain]`.

Superpixels are hidden at random, and a linear model of the answers gives the weight of each. The cut limits what can be
found: a hairline is thinner than any superpixel.
"""

from __future__ import annotations

from unittest import mock

import numpy as np
from numpy.typing import NDArray

from fracturelab.errors import FracturelabError
from fracturelab.explanations.occlusion import Predict, blurred


def lime_maps(
    predict: Predict, images: NDArray, *, samples: int = 300, segments: int = 80, seed: int = 0
) -> NDArray[np.float32]:
    """LIME maps: the weight of each superpixel in a local linear model of P(fractured).

    Superpixels are SLIC's (compact, about equally large); a hidden one is blurred, as in the other methods here.

    Args:
        predict: Images to P(fractured), such as `Predictor.predict`.
        images: uint8 or float (n, size, size, 1), grey levels 0..255.
        samples: Altered copies of each image; the cost goes with it.
        segments: About how many superpixels.
        seed: The same seed gives the same maps.

    Returns:
        float32 (n, size, size), constant within each superpixel.

    Raises:
        FracturelabError: The library is not installed.
    """
    from sklearn.metrics import pairwise_distances

    try:
        from lime.lime_image import LimeImageExplainer
        from lime.wrappers.scikit_image import SegmentationAlgorithm
    except ImportError as error:
        raise FracturelabError("LIME is not installed; python -m pip install -r requirements/explain.txt") from error

    def classify(colour: NDArray) -> NDArray:
        p = np.asarray(predict(np.asarray(colour, np.float32)[..., :1]), np.float64)
        return np.stack([1 - p, p], axis=1)

    cut = SegmentationAlgorithm("slic", n_segments=segments, compactness=10, sigma=1, start_label=0)
    result = np.zeros((len(images), *images.shape[1:3]), np.float32)
    veils = blurred(images)
    for number, image in enumerate(images):
        colour, veil = (np.repeat(np.asarray(grey, np.float64), 3, axis=2) for grey in (image, veils[number]))
        pieces = cut(colour / 255)
        explainer = LimeImageExplainer(random_state=seed)
        # The steps of its `explain_instance`, with blur in hidden superpixels. The library puts in their mean, which
        # leaves a bright implant as bright as it was.
        with mock.patch("lime.lime_image.tqdm", iter):  # its progress bar, one an image, cannot be switched off
            shown, answers = explainer.data_labels(colour, veil, pieces, classify, samples, batch_size=32)
        distances = pairwise_distances(shown, shown[:1], metric="cosine").ravel()
        fitted = explainer.base.explain_instance_with_data(
            shown, answers, distances, 1, shown.shape[1], feature_selection=explainer.feature_selection
        )
        weights = np.zeros(int(pieces.max()) + 1)
        for piece, weight in fitted[1]:
            weights[piece] = weight
        result[number] = weights[pieces]
    return np.maximum(result, 0)
