"""Examples for the page: synthetic radiographs of no patient, with their truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fracturelab.explanations.overlay import on_radiograph
from fracturelab.phantoms import render
from fracturelab.prediction.answers import Answer
from fracturelab.prediction.uploads import Upload
from page.downloads import png

REGIONS = ("forearm", "leg", "hand", "ankle", "femur", "humerus")
FIRST_SEED, CANDIDATES = 700, 12
SLACK = 20  # pixels beside the box where the hottest point still counts as on the fracture


@dataclass(frozen=True)
class Example:
    """A picture to try.

    Attributes:
        name: As a file's name.
        data: The file's bytes.
        truth: "fractured", "normal", or "" where it is not known.
        box: (x0, y0, x1, y1) of the fracture in pixels of the picture, None without one.
    """

    name: str
    data: bytes
    truth: str = ""
    box: tuple[int, int, int, int] | None = None


def synthetic() -> list[Example]:
    """Radiographs of no patient, rendered on the spot, fractured and normal by turns."""
    examples = []
    for number in range(CANDIDATES):
        region, fractured = REGIONS[number // 2 % len(REGIONS)], number % 2 == 0
        phantom = render(
            FIRST_SEED + number,
            size=480,
            fractured=fractured,
            region=region,
            difficulty=0.1,
            letterbox=False,
            nuisances={"two_views": False},
        )
        truth = "fractured" if fractured else "normal"
        examples.append(Example(f"synthetic {region} {number + 1}.png", png(phantom.image), truth, phantom.box))
    return examples


def on_fracture(example: Example, upload: Upload, answer: Answer | None) -> bool:
    """Whether the hottest point of an answer's map lies on the fracture of an example."""
    if example.box is None or answer is None or answer.heat is None or upload.shown is None or not answer.heat.any():
        return False
    heat = on_radiograph(answer.heat, upload.shown.shape)
    y, x = np.unravel_index(int(heat.argmax()), heat.shape)
    x0, y0, x1, y1 = example.box
    return bool(x0 - SLACK <= x <= x1 + SLACK and y0 - SLACK <= y <= y1 + SLACK)


def worth_showing(
    examples: Sequence[Example], uploads: Sequence[Upload], answers: Sequence[Answer | None]
) -> list[int]:
    """Numbers of the examples to show: a fracture that was found, a normal bone, and a wrong answer, if there are any.

    The first is the fracture with the highest P(fractured) among those whose map points at it, else among all.
    """
    known = [
        (number, answer)
        for number, (example, answer) in enumerate(zip(examples, answers, strict=True))
        if answer is not None and example.truth
    ]
    broken = [(number, answer) for number, answer in known if examples[number].truth == "fractured"]
    usual = [pair for pair in broken if not pair[1].remark]
    pointed = [pair for pair in usual if on_fracture(examples[pair[0]], uploads[pair[0]], pair[1])]
    chosen = [max(pointed or usual or broken, key=lambda pair: pair[1].probability)[0]] if broken else []
    for right in (True, False):
        for number, answer in known:
            matches = (answer.label == examples[number].truth) == right
            if matches and number not in chosen and (not right or answer.label == "normal"):
                chosen.append(number)
                break
    return chosen
