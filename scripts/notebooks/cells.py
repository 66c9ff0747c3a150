"""What happens to a notebook's cells around a run: parameters before it, tidying after it."""

from __future__ import annotations

import ast
import base64
import copy
import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
from PIL import Image

from fracturelab.errors import FracturelabError
from fracturelab.system.files import whole_file

_NO_DITHER = Image.Dither.NONE
PARAMETERS = "parameters"
INJECTED = "injected-parameters"
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]{6,16}")
_PACKAGES = re.compile(r"(?<!\S)\S*[/\\]site-packages[/\\]")  # where a warning's library lies on this machine
# What TensorFlow's libraries say while they load, whatever log level is set: it holds times and process ids.
_LOADING = re.compile(
    r"(WARNING: All log messages before absl::|[IW]\d{4} \d\d:\d\d:\d{10}|To enable the following ins).*\n?"
)


def with_parameters(notebook: nbformat.NotebookNode, values: Mapping[str, Any]) -> nbformat.NotebookNode:
    """Return a copy with a cell after the one tagged `parameters` that sets some of them anew.

    The convention, tags included, is papermill's. A value that the tagged cell does not set is refused: nothing would
    read it.

    Args:
        notebook: The notebook.
        values: Name to a value that Python's `repr` can write: numbers, strings, None, and lists or dicts of them.

    Raises:
        FracturelabError: There is no such cell, or it does not set a name.
    """
    result = copy.deepcopy(notebook)
    result.cells = [cell for cell in result.cells if INJECTED not in cell.metadata.get("tags", [])]
    if not values:
        return result
    known, at = parameter_names(result), _place(result)
    for name in values:
        if name not in known:
            raise FracturelabError(f"expected a parameter among {', '.join(known)}. Received: {name}")
    lines = ["# Parameters of this run", *(f"{name} = {value!r}" for name, value in values.items())]
    cell = nbformat.v4.new_code_cell("\n".join(lines), metadata={"tags": [INJECTED]}, id="injected-parameters")
    result.cells.insert(at + 1, cell)
    return result


def parameter_names(notebook: nbformat.NotebookNode) -> list[str]:
    """Return the names that the cell tagged `parameters` assigns, in order.

    Raises:
        FracturelabError: There is no such cell.
    """
    return _assigned(notebook.cells[_place(notebook)].source)


def _place(notebook: nbformat.NotebookNode) -> int:
    """Return the index of the cell tagged `parameters`."""
    for at, cell in enumerate(notebook.cells):
        if PARAMETERS in cell.metadata.get("tags", []):
            return at
    raise FracturelabError(f"expected a cell tagged {PARAMETERS} in the notebook. Received: none")


def _assigned(source: str) -> list[str]:
    """Return the names that a cell assigns, in order."""
    names = []
    for node in ast.walk(ast.parse(source)):
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        names += [target.id for target in targets if isinstance(target, ast.Name)]
    return names


def tidy(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Return a copy without what differs between two equal runs: times, addresses, library start-up, kernel version."""
    result = copy.deepcopy(notebook)
    result.metadata = nbformat.from_dict(
        {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        }
    )
    for cell in result.cells:
        for key in ("execution", "papermill", "collapsed", "scrolled"):
            cell.metadata.pop(key, None)
        if "outputs" in cell:
            cell.outputs = [output for output in cell.outputs if not _only_loading(output)]
        for output in cell.get("outputs", []):
            if "text" in output:
                output["text"] = _PACKAGES.sub("", _ADDRESS.sub("", output["text"]))
            for kind, value in output.get("data", {}).items():
                if kind.startswith("text/") and isinstance(value, str):
                    output["data"][kind] = _ADDRESS.sub("", value)
                elif kind == "image/png" and isinstance(value, str):
                    output["data"][kind] = smaller_png(value)
    return result


def save_pictures(notebook: nbformat.NotebookNode, folder: Path, *, prefix: str) -> list[Path]:
    """Write the pictures of an executed notebook as `{prefix}-{id of the cell}.png`.

    Cells whose id begins with a number have no name that a file could be known by, and are left out.

    Args:
        notebook: The executed notebook.
        folder: Where they go; it is made if there is a picture.
        prefix: Number of the notebook.

    Returns:
        The files, in order.
    """
    written = []
    for cell in notebook.cells:
        pictures = [
            output.data["image/png"] for output in cell.get("outputs", []) if "image/png" in output.get("data", {})
        ]
        for number, encoded in enumerate(pictures if not cell.id[0].isdigit() else [], start=1):
            path = folder / f"{prefix}-{cell.id}{'' if number == 1 else f'-{number}'}.png"
            with whole_file(path) as part:
                part.write_bytes(base64.b64decode(encoded))
            written.append(path)
    return written


def smaller_png(encoded: str, *, greys: int = 48, colours: int = 144) -> str:
    """Return a picture with a palette, where that makes it smaller.

    Grey levels and colours get palettes of their own: one palette for both would tint radiographs that stand beside
    coloured frames. A notebook full of pictures stays below 1 MB.

    Args:
        encoded: A PNG in base64, as notebooks hold it.
        greys: Number of grey levels, evenly from black to white.
        colours: Number of other colours; with the greys at most 256.

    Returns:
        The picture in base64; the one given if it is as small, or no picture.
    """
    try:
        with Image.open(io.BytesIO(base64.b64decode(encoded))) as picture:
            pixels = np.asarray(picture.convert("RGB"))
    except (OSError, ValueError):
        return encoded
    palette = np.repeat(np.linspace(0, 255, greys).round().astype(np.uint8), 3)
    places = np.rint(pixels[..., 1] * ((greys - 1) / 255)).astype(np.uint8)
    coloured = np.ptp(pixels, axis=2) > 2
    if coloured.any():
        few = Image.fromarray(pixels[coloured][None]).quantize(colours, Image.Quantize.MEDIANCUT, dither=_NO_DITHER)
        places[coloured] = np.asarray(few)[0] + greys
        palette = np.concatenate([palette, few.getpalette()])
    small = Image.fromarray(places, mode="P")
    small.putpalette(palette.astype(np.uint8).tobytes())
    target = io.BytesIO()
    small.save(target, "PNG", optimize=True)
    smaller = base64.b64encode(target.getvalue()).decode("ascii")
    return smaller if len(smaller) < len(encoded) else encoded


def _only_loading(output: nbformat.NotebookNode) -> bool:
    """Take the lines of loading libraries off an error stream, and say whether nothing else was in it.

    A widget without its state, such as a progress bar of a library, shows nothing either.
    """
    if "application/vnd.jupyter.widget-view+json" in output.get("data", {}):
        return True
    if output.get("name") != "stderr":
        return False
    output["text"] = _LOADING.sub("", output["text"])
    return not output["text"].strip()
