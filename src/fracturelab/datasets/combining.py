"""Several data sets as one table with the source of each image."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from fracturelab.datasets.table import COLUMNS
from fracturelab.errors import FracturelabError

if TYPE_CHECKING:
    import pandas as pd


def combine(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Put tables together, the name of each in the column `source`.

    Groups and studies get that name before their own: patient 7 of one hospital is not patient 7 of another. Published
    splits stay; a source without one is then cut by `splits.holdout_split` only as far as a part is missing.

    Pictures that stand in two data sets, which happens to public ones, are not looked for here. `audit.with_groups` on
    the result finds them, whatever their names, and keeps copies together.

    Args:
        tables: Name of the source to its table, as `read_dataset` gives it.

    Returns:
        One table with every row of all of them, sorted by path.

    Raises:
        FracturelabError: No table, a name that is empty, or a file that stands in two of them.
    """
    import pandas as pd

    if not tables or not all(tables):
        raise FracturelabError(f"expected data sets with a name each. Received: {list(tables)}")
    parts = [
        table[list(COLUMNS)].assign(source=name, group=f"{name}/" + table["group"], study=f"{name}/" + table["study"])
        for name, table in tables.items()
    ]
    combined = pd.concat(parts).sort_values("path", kind="stable", ignore_index=True)
    twice = combined[combined["path"].duplicated(keep=False)]
    if len(twice):
        names = " and ".join(twice["source"].head(2))
        raise FracturelabError(f"{twice['path'].iloc[0]}: stands in two data sets, {names}; take it out of one of them")
    return combined.astype({"source": "string[python]"})
