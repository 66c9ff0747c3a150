"""Any value as plain JSON types."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


def plain(value: Any, *, text: Callable[[str], str] = str) -> Any:
    """Turn a value into plain JSON types.

    Arrays and sets become lists, and numbers that are not finite become None.

    Args:
        value: Numbers, strings, paths, arrays, and mappings, lists or sets of them; objects with `to_dict`.
        text: What to do with each string and path.

    Returns:
        The same as dict, list, str, int, float, bool and None.

    Raises:
        TypeError: Something else is in it.
    """
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, str):
        return text(value)
    if isinstance(value, Path):
        return text(str(value) if value.is_absolute() else value.as_posix())
    if isinstance(value, Mapping):
        return {str(key): plain(item, text=text) for key, item in value.items()}
    if hasattr(value, "_asdict"):
        return plain(value._asdict(), text=text)
    if hasattr(value, "tolist"):
        return plain(value.tolist(), text=text)
    if isinstance(value, set | frozenset):
        return plain(sorted(value), text=text)
    if isinstance(value, list | tuple):
        return [plain(item, text=text) for item in value]
    if hasattr(value, "to_dict"):
        return plain(value.to_dict(), text=text)
    if str(value) in ("<NA>", "NaT"):
        return None
    raise TypeError(f"expected numbers, text, lists and dicts. Received: {type(value).__name__}")
