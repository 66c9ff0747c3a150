"""Several data sets as one table that still says where each image comes from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fracturelab.datasets.table import COLUMNS, make_table
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
    if not tables or not all(tables):
        raise FracturelabError(f"expected data sets with a name each. Received: {list(tables)}")
    rows: list[dict[str, Any]] = []
    seen: dict[str, str] = {}
    for name, table in tables.items():
        plain = table[list(COLUMNS)].astype(object)
        for row in plain.where(plain.notna(), None).to_dict("records"):
            if row["path"] in seen:
                raise FracturelabError(f"{row['path']}: stands in two data sets, {seen[row['path']]} and {name}")
            seen[row["path"]] = name
            named = {key: f"{name}/{row[key]}" for key in ("group", "study") if row[key] is not None}
            rows.append({**row, **named, "source": name})
    return make_table(rows)
