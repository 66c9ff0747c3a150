"""What a cross-validation holds out until its end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fracturelab.errors import FracturelabError

if TYPE_CHECKING:
    import pandas as pd


def with_holdout(table: pd.DataFrame, holdout: str) -> pd.DataFrame:
    """Choose what is held out: nothing, the test part, or a published validation part.

    Args:
        table: The data set's table.
        holdout: "test", "val" or "none".

    Returns:
        The table; what is held out has the split "test".

    Raises:
        FracturelabError: "val" without a published validation part.
    """
    split = table["split"]
    if holdout == "none":
        return table.assign(split=split.mask(split == "test"))
    if holdout == "test":
        return table
    if not (split == "val").any():
        raise FracturelabError("expected a published validation part for --holdout val. Received: none in this folder")
    return table.assign(split=split.mask(split == "test").mask(split == "val", "test"))
