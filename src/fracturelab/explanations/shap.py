"""SHAP (Lundberg and Lee 2017) through its own library. Needs the extra `fracturelab[explain]`.

The library's partition explainer: Owen values of a hierarchy of image parts, for any model that gives a probability.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fracturelab.errors import FracturelabError
from fracturelab.explanations.occlusion import Predict, blurred


def shap_maps(predict: Predict, images: NDArray, *, evaluations: int = 300, seed: int = 0) -> NDArray[np.float32]:
    """SHAP maps: what each part adds to P(fractured), in comparison with the blurred image.

    Args:
        predict: Images to P(fractured), such as `Predictor.predict`.
        images: uint8 or float (n, size, size, 1), grey levels 0..255.
        evaluations: Altered copies of each image: the more, the finer the parts; the cost goes with it.
        seed: The same seed gives the same maps.

    Returns:
        float32 (n, size, size).

    Raises:
        FracturelabError: The library is not installed.
    """
    try:
        import shap
    except ImportError as error:
        raise FracturelabError("SHAP is not installed; python -m pip install -r requirements/explain.txt") from error

    def answer(batch: NDArray) -> NDArray[np.float64]:
        return np.asarray(predict(np.asarray(batch, np.float32)), np.float64)

    result = np.zeros((len(images), *images.shape[1:3]), np.float32)
    veils = blurred(images)
    for number, image in enumerate(np.asarray(images, np.float32)):
        masker = shap.maskers.Image(veils[number], shape=image.shape)
        explainer = shap.PartitionExplainer(answer, masker, seed=seed)
        values = explainer(image[np.newaxis], max_evals=evaluations, batch_size=32, silent=True)
        result[number] = np.asarray(values.values, np.float32).reshape(image.shape)[..., 0]
    return np.maximum(result, 0)
