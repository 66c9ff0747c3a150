"""Draw README's pictures: scores, an X-ray with its heat map, and a thumbnail of each notebook."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray
from PIL import Image

from fracturelab.explanations.explain import explain
from fracturelab.images import letterbox
from fracturelab.phantoms import Phantom, render
from fracturelab.plots import FRACTURED, NORMAL, heat_overlay, save_figure
from fracturelab.prediction import load_predictor
from fracturelab.records import default_folder, read_records
from scripts.front_page import ROWS, Record, home_and_elsewhere
from scripts.notebook_pictures import NOTEBOOKS, chosen_picture

ROOT = Path(__file__).resolve().parents[1]
PICTURES = ROOT / "docs" / "pictures"
MODEL = ROOT / "models" / "fracturelab-small.keras"
SEEDS = range(700, 732, 2)
"""The phantoms among which the page looks for its first example."""
REGIONS = ("forearm", "leg", "hand", "ankle", "femur", "humerus")
SLACK = 20
"""Pixels beside the box where the hottest point still counts as on the fracture, as on the page."""
THUMBNAIL = (240, 150)
COLOURS = ("#0072B2", "#D55E00")


def found_fracture() -> tuple[Phantom, NDArray[np.float32], float]:
    """The phantom with the highest P(fractured) whose heat map points at the fracture, its map, and P(fractured)."""
    predictor = load_predictor(MODEL)
    options = {"size": 480, "difficulty": 0.1, "letterbox": False, "nuisances": {"two_views": False}}
    phantoms = [
        render(seed, fractured=True, region=REGIONS[number % len(REGIONS)], **options)
        for number, seed in enumerate(SEEDS)
    ]
    probabilities = predictor.predict(
        np.stack([letterbox(phantom.image, predictor.input_size) for phantom in phantoms])
    )
    for number in np.argsort(-probabilities):
        phantom = phantoms[number]
        heat = explain(predictor, phantom.image)
        y, x = np.unravel_index(int(heat.argmax()), heat.shape)
        x0, y0, x1, y1 = phantom.box
        if x0 - SLACK <= x <= x1 + SLACK and y0 - SLACK <= y <= y1 + SLACK:
            return phantom, heat, float(probabilities[number])
    raise SystemExit("No heat map points at its fracture: choose other seeds.")


def draw_scores(ax: Axes, records: Sequence[Record]) -> None:
    """ROC AUC of each model on its own source and on another one, with 95% intervals or the range over seeds."""
    names = []
    for place, row in enumerate(ROWS):
        names.append(f"{row.name}\n({row.data})")
        for shift, scores, colour, marker in zip(
            (-0.12, 0.12), home_and_elsewhere(records, row), COLOURS, "os", strict=True
        ):
            if scores.empty:
                continue
            value = scores["value"].mean()
            low, high = (scores["low"], scores["high"]) if len(scores) == 1 else (scores["value"], scores["value"])
            ax.plot([low.min(), high.max()], [place + shift] * 2, color=colour, linewidth=2)
            ax.plot(value, place + shift, marker, color=colour, markersize=7)
    ax.axvline(0.5, color=NORMAL, linestyle=":", linewidth=1)
    ax.set(xlim=(0.4, 1), yticks=range(len(names)), yticklabels=names, xlabel="ROC AUC; 0.5 is chance")
    ax.invert_yaxis()
    for marker, colour, label in zip("os", COLOURS, ("same source", "another source"), strict=True):
        ax.plot([], [], marker, color=colour, label=label)
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False)


def draw_front() -> Path:
    """Draw the picture of the first screen."""
    phantom, heat, probability = found_fracture()
    figure = Figure(figsize=(10, 3.7), layout="constrained")
    scores, plain, mapped = figure.subplots(1, 3, width_ratios=(1.7, 1, 1))
    draw_scores(scores, read_records(default_folder()))
    plain.imshow(phantom.image, cmap="gray", vmin=0, vmax=255)
    plain.set_title(f"synthetic {phantom.region}; box: fracture", fontsize=9)
    heat_overlay(phantom.image, heat, ax=mapped)
    mapped.set_title(f"shipped model: P(fractured) {probability:.2f}", fontsize=9)
    x0, y0, x1, y1 = phantom.box
    for ax in (plain, mapped):
        ax.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, edgecolor=FRACTURED, linewidth=1.5))
        ax.set_axis_off()
    return save_figure(figure, PICTURES / "front.png")


def draw_thumbnails() -> list[Path]:
    """Write one small PNG a notebook: its chosen picture on white."""
    written = []
    for notebook in sorted(NOTEBOOKS.glob("[0-9]*.ipynb")):
        chosen = chosen_picture(notebook)
        if chosen is None:
            continue
        picture = Image.open(io.BytesIO(chosen)).convert("RGB")
        picture.thumbnail(THUMBNAIL, Image.Resampling.LANCZOS)
        small = Image.new("RGB", THUMBNAIL, "white")
        small.paste(picture, ((THUMBNAIL[0] - picture.width) // 2, (THUMBNAIL[1] - picture.height) // 2))
        path = PICTURES / f"notebook-{notebook.name[:2]}.png"
        small.quantize(64).save(path, optimize=True)
        written.append(path)
    return written


def main() -> None:
    """Draw all pictures and print their paths."""
    for path in (*draw_thumbnails(), draw_front()):
        print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
