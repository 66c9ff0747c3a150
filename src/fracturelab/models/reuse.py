"""The backbone of a saved transfer model as weights to start another model from."""

from __future__ import annotations

from pathlib import Path

from fracturelab.errors import FracturelabError
from fracturelab.models.backbones import build_backbone
from fracturelab.models.files import load_model, read_card
from fracturelab.models.weights import WeightsInfo, sha256_of
from fracturelab.system.files import whole_file


def backbone_weights(path: str | Path, *, folder: str | Path | None = None) -> WeightsInfo:
    """Take the backbone out of a saved v2, so that `train_v2(weights=...)` can start from it.

    Args:
        path: A `.keras` file with its card, such as the shipped model.
        folder: Where the weights file goes; the images' cache folder if None.

    Returns:
        Name, origin, licence and sha256 of the weights, with the file they lie in.

    Raises:
        FracturelabError: It is no transfer model, or the file cannot be written.
    """
    from fracturelab.images import default_cache_dir

    path = Path(path)
    card = read_card(path)
    recipe, started = card.get("recipe") or {}, card.get("weights") or {}
    backbone = card.get("backbone")
    if not backbone or recipe.get("recipe") != "v2":
        raise FracturelabError(f"{path}: expected a transfer model with its card. Received: {card.get('kind')}")
    options = dict(recipe.get("backbone_options") or {})
    model = load_model(path)
    base = build_backbone(
        backbone,
        input_size=int(model.inputs[0].shape[1]),
        options=options,
        weights_path=None,
        scaling=started.get("scaling"),
        trainable=False,
    )
    for layer in base.layers:
        if layer.weights:
            layer.set_weights(model.get_layer(layer.name).get_weights())
    place = Path(folder) if folder is not None else default_cache_dir() / "weights"
    file = place / f"{path.stem}-{sha256_of(path)[:16]}.weights.h5"
    with whole_file(file, suffix=".tmp.weights.h5") as part:
        base.save_weights(part)
    return WeightsInfo(
        name=f"{card.get('name') or path.stem}, its backbone",
        kind="file",
        backbone=backbone,
        origin=f"{started.get('origin') or 'not known'}; then trained on {(card.get('data') or {}).get('source')}",
        licence=str((card.get("licence") or {}).get("weights") or started.get("licence") or "not known"),
        sha256=sha256_of(file),
        path=str(file),
        scaling=started.get("scaling"),
        options=options,
    )
