"""The backbone of a saved transfer model as weights to start another model from."""

from __future__ import annotations

from pathlib import Path

from fracturelab.errors import FracturelabError
from fracturelab.models.backbones import build_backbone
from fracturelab.models.files import load_model, read_card
from fracturelab.models.weights import WeightsInfo
from fracturelab.system.files import sha256_of, whole_file


def backbone_weights(path: str | Path) -> WeightsInfo:
    """Take the backbone out of a saved v2, so that `train_v2(weights=...)` can start from it.

    Args:
        path: A `.keras` file with its card, such as the shipped model.

    Returns:
        Name, origin, licence and sha256 of the weights, with the file they lie in, in the cache folder of the images.

    Raises:
        FracturelabError: It is no transfer model, or the file cannot be written.
    """
    from fracturelab.images import default_cache_dir

    path = Path(path)
    card = read_card(path)
    recipe, start = card.get("recipe") or {}, card.get("weights") or {}
    backbone, scaling = card.get("backbone"), start.get("scaling")
    if not backbone or recipe.get("recipe") not in ("v2", "maps"):
        raise FracturelabError(f"{path}: expected a transfer model with its card. Received: {card.get('kind')}")
    options = dict(recipe.get("backbone_options") or {})
    model = load_model(path)
    base = build_backbone(backbone, input_size=int(model.inputs[0].shape[1]), options=options, scaling=scaling)
    for layer in base.layers:
        if layer.weights:
            layer.set_weights(model.get_layer(layer.name).get_weights())
    file = default_cache_dir() / "weights" / f"{path.stem}-{sha256_of(path)[:16]}.weights.h5"
    with whole_file(file, suffix=".tmp.weights.h5") as part:
        base.save_weights(part)
    return WeightsInfo(
        name=f"{card.get('name') or path.stem}, its backbone",
        kind="file",
        backbone=backbone,
        origin=f"{start.get('origin') or 'not known'}; then trained on {(card.get('data') or {}).get('source')}",
        licence=str((card.get("licence") or {}).get("weights") or start.get("licence") or "not known"),
        sha256=sha256_of(file),
        path=str(file),
        scaling=scaling,
        options=options,
    )
