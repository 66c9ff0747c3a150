"""Fracture types: images of several classes, split so that every part has every type."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from fracturelab.errors import FracturelabError
from fracturelab.training.prepare import Prepared, prepare

if TYPE_CHECKING:
    import pandas as pd


def prepare_types(
    table: pd.DataFrame, *, size: int = 128, seed: int = 0, cache_dir: str | Path | Literal[False] | None = None
) -> Prepared:
    """Read the images of known fracture type and split them by group, stratified by type.

    A published test part is kept. Training images with a near-duplicate in it are left out.

    Args:
        table: The data set's table; rows without a `kind` are left out.
        size: Side of the square images in pixels.
        seed: Decides the split.
        cache_dir: Folder of decoded images; None for the default, False for none.

    Returns:
        The images; `label` is the number of the type in `class_names`, which are sorted.

    Raises:
        FracturelabError: Fewer than three types, or a part that would lack one.
    """
    names = tuple(sorted(set(table["kind"].dropna())))
    if len(names) < 3:
        raise FracturelabError(
            f"expected images of at least 3 fracture types, such as folders named 'Spiral fracture'. "
            f"Received: {', '.join(names) or 'none with a known type'}"
        )
    numbers = {name: number for number, name in enumerate(names)}
    table = table.assign(label=table["kind"].map(numbers).astype("Int64"))
    prepared = prepare(table, size=size, seed=seed, class_names=names, cache_dir=cache_dir, progress=False)
    for part in ("train", "val", "test"):
        missing = set(range(len(names))) - set(prepared.labels[prepared.rows(part)])
        if missing:
            raise FracturelabError(
                f"expected every fracture type in the {part} part. Received: none of {names[min(missing)]}; add images"
            )
    return prepared
