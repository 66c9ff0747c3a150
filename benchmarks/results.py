"""The results of `make bench`: one JSON for all comparisons, and a table of it.

`reports/benchmarks/results.json` maps the name of each comparison to what came out, and "machine" to the machine of the
last run. A run of some comparisons replaces theirs alone. Each carries a checksum, as records do.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from fracturelab.errors import FracturelabError
from fracturelab.records import markdown_table
from fracturelab.records.files import EditedRecordError, checksum_of, plain
from fracturelab.system.files import write_text
from fracturelab.system.folders import reports_folder

NAMES = (
    "v2_head_20_epochs",
    "v2_finetune_10_epochs",
    "input_first_pass",
    "input_later_epochs",
    "inference_batch",
    "inference_single",
    "inference_batch_small",
    "inference_single_small",
    "inference_batch_shipped",
    "inference_single_shipped",
    "predict_cold",
    "audit_40000",
    "training_memory_40000",
)
"""The comparisons, in the order of the table."""

MACHINE = "machine"


def benchmarks_file(reports: str | Path | None = None) -> Path:
    """`benchmarks/results.json` of the reports folder."""
    return (reports_folder() if reports is None else Path(reports)) / "benchmarks" / "results.json"


def read_benchmarks(path: str | Path | None = None) -> dict[str, Any]:
    """The results of all comparisons that were run.

    Args:
        path: The JSON file; `benchmarks_file()` if None.

    Returns:
        Name to result, and "machine"; empty where nothing was run yet.

    Raises:
        FracturelabError: The file cannot be read, or is not whole.
        EditedRecordError: A result was edited by hand.
    """
    path = benchmarks_file() if path is None else Path(path)
    if not path.is_file():
        return {}
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise FracturelabError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise FracturelabError(f"{path} is not a whole JSON file: remove it and run `make bench` again") from error
    if not isinstance(results, dict):
        raise FracturelabError(f"{path} holds no results of `make bench`: remove it and run that again")
    for name, result in results.items():
        if name != MACHINE and (not isinstance(result, dict) or result.get("checksum") != checksum_of(result)):
            raise EditedRecordError(path)
    return results


def merge_benchmarks(new: Mapping[str, Mapping[str, Any]], path: str | Path | None = None) -> dict[str, Any]:
    """Add new results to the file, which is written whole or not at all.

    Args:
        new: Name to result.
        path: The JSON file; `benchmarks_file()` if None. A Markdown table of it is written beside it.

    Returns:
        All results, in the order of `NAMES`.

    Raises:
        FracturelabError: What is there cannot be read or was edited, or the file cannot be written.
    """
    path = benchmarks_file() if path is None else Path(path)
    measured = read_benchmarks(path)
    for name, result in new.items():
        if name not in NAMES:
            raise ValueError(f"expected a name out of {', '.join(NAMES)}. Received: {name!r}")
        entry = plain(result)
        entry["checksum"] = checksum_of(entry)
        measured[name] = entry
        measured[MACHINE] = entry["machine"]
    results = {name: measured[name] for name in (*NAMES, MACHINE) if name in measured}
    write_text(path, json.dumps(results, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    write_text(path.with_suffix(".md"), benchmarks_text(results))
    return results


def benchmarks_table(results: Mapping[str, Any], *, names: str = "*") -> str:
    """The results as a Markdown table: ours, theirs, their ratio, and the share of the limit.

    Args:
        results: From `read_benchmarks`.
        names: Pattern that the names must match.

    Returns:
        The table, ending in a newline; an empty string without any result.
    """
    chosen = [name for name in NAMES if name in results and fnmatchcase(name, names)]
    head = ["comparison", "size", "unit", "fracturelab", "the usual recipe", "times better", "limit", "of the limit"]
    rows = []
    for name in chosen:
        each = results[name]
        share = "" if each.get("limit_share") is None else f"{100 * each['limit_share']:.0f}%"
        failed = [check for check, passed in (each.get("checks") or {}).items() if not passed]
        better = f"{each['ratio']:.3g}" + (f" ({', '.join(failed)}: no)" if failed else "")
        rows.append(
            [
                name,
                each.get("size") or "",
                each["unit"],
                _number(each["ours"]),
                _number(each["theirs"]),
                better,
                _number(each["limit"]),
                share,
            ]
        )
    return markdown_table(head, rows, text_columns=3) if rows else ""


def benchmarks_text(results: Mapping[str, Any]) -> str:
    """All results as a Markdown page: the table, what each line compares, and the machine."""
    machine = results.get(MACHINE) or {}
    words = "; ".join(f"{name.replace('_', ' ')} {_word(value)}" for name, value in machine.items())
    intro = "Written by `make bench`; every comparison alternates both sides in one run, and takes medians."
    lines = ["# Side by side", "", intro, "", benchmarks_table(results), *_about(results), f"Machine: {words}.", ""]
    return "\n".join(lines)


def _about(results: Mapping[str, Any]) -> Iterable[str]:
    for name in NAMES:
        each = results.get(name)
        if each:
            yield f"- **{name}**: {each.get('about', '')} Limit: {each.get('limit_is', '')}"
            details = "; ".join(f"{key.replace('_', ' ')} {_word(value)}" for key, value in each["details"].items())
            yield f"  {details}." if details else ""
    yield ""


def _word(value: Any) -> str:
    if isinstance(value, Mapping):
        return "(" + ", ".join(f"{key}: {_word(each)}" for key, each in value.items()) + ")"
    if isinstance(value, list):
        return "[" + ", ".join(_word(each) for each in value) + "]"
    return _number(value) if isinstance(value, float) else str(value)


def _number(value: float | None) -> str:
    """A number with three significant digits."""
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
