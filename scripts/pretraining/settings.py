"""What a folder of views, or the weights of a stage, were made with: nothing goes on with other settings."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fracturelab.errors import FracturelabError


def check_settings(path: Path, settings: Mapping[str, Any], *, what: str, partly: bool = False) -> None:
    """Refuse settings other than those that were written.

    Args:
        path: A JSON file; where there is none, nothing is refused. Settings that it does not have yet, as an earlier
            version wrote it, are not compared.
        settings: The settings now, plain values.
        what: What was made with them, for the message.
        partly: Whether the file may say more than `settings` does.

    Raises:
        FracturelabError: Another setting, named, or a file that holds no settings.
    """
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(stored, dict):
            raise ValueError("expected a JSON object")
    except FileNotFoundError:
        return
    except (OSError, ValueError, RecursionError) as error:
        raise FracturelabError(f"{path}: does not say how {what} made ({error}); remove {path.parent}") from error
    apart = list(_differences(stored, json.loads(json.dumps(settings)), partly=partly))
    if apart:
        raise FracturelabError(
            f"{path.parent}: {what} made with other settings ({'; '.join(apart)}); go on with those, choose another "
            "folder, or remove this one"
        )


def _differences(stored: Mapping[str, Any], now: Mapping[str, Any], *, partly: bool) -> Iterator[str]:
    for name, value in stored.items():
        if name not in now:
            if not partly:
                yield f"{name} was {value!r}, now it is not given"
        elif isinstance(value, dict) and isinstance(now[name], dict):
            yield from (f"{name}.{one}" for one in _differences(value, now[name], partly=partly))
        elif value != now[name]:
            yield f"{name} was {value!r}, now {now[name]!r}"
