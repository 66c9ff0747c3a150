"""The app under load, below its page: uploads at once and in a row, with memory flat."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fracturelab.prediction import Predictor
from fracturelab.prediction.answers import Answer, answer_uploads
from fracturelab.prediction.uploads import read_upload
from page.downloads import answers_csv
from tests.hostile.cases import HOSTILE, encoded, xray
from tests.hostile.test_files import FIXTURE, SIZE

ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), *filter(None, sys.path)])}


def explain(images: np.ndarray, *, batch_size: int) -> tuple[np.ndarray, np.ndarray]:
    """A model by arithmetic: the mean grey, and the picture as its own evidence."""
    return images.mean((1, 2, 3)) / 255, images[..., 0].astype(np.float32)


def predictor(**further: Any) -> Predictor:
    model = Predictor(Path("m.keras"), "keras", SIZE, 0.2, **further)
    explain.least = 0.0
    vars(model)["explainer"] = explain
    return model


def answered(name: str, data: bytes, model: Predictor) -> Any:
    """Everything that the page does with one upload."""
    upload = read_upload(name, data, size=SIZE)
    [answer] = answer_uploads(model, [upload])
    assert answers_csv([upload], [answer], model)
    return upload.problem if answer is None else (answer.probability, answer.label, answer.heat.sum())


def visits(count: int) -> list[tuple[str, bytes]]:
    """Uploads of every kind, good and bad by turns."""
    files = [(file.name, file.make()) for file in HOSTILE if file.key not in ("bomb", "scans", "text-bomb")]
    good = [(f"{seed}.png", encoded(Image.fromarray(xray(seed)), "PNG")) for seed in range(20)]
    both = [one for pair in zip(good * 5, files * 5, strict=False) for one in pair]
    return [both[number % len(both)] for number in range(count)]


def test_twenty_uploads_at_once(happened):
    model, given = predictor(), visits(20)
    alone = [answered(name, data, model) for name, data in given]
    start = threading.Barrier(20)

    def visit(one: tuple[str, bytes]) -> Any:
        start.wait()
        return answered(*one, model)

    with ThreadPoolExecutor(20) as pool:
        together = list(pool.map(visit, given))
    assert together == alone
    assert sum(isinstance(answer, tuple) for answer in alone) >= 10
    happened("app-at-once", "each got the answer that it gets alone")


IN_A_ROW = """
import sys
from tests.hostile.test_app import answered, predictor, visits
def memory():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096 // 1024
model, given = predictor(), visits({count} + 60)
for name, data in given[:60]:
    answered(name, data, model)
before = memory()
for name, data in given[60:]:
    answered(name, data, model)
print(memory() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc")
def test_a_hundred_uploads_in_a_row(happened):
    command = [sys.executable, "-c", IN_A_ROW.replace("{count}", "100")]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 20_000
    happened("app-row", "memory grew by less than 20 MB")


VISITORS = """
import sys
from concurrent.futures import ThreadPoolExecutor
from tests.hostile.test_app import answered, visits
from fracturelab.prediction import load_predictor
def memory():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096 // 1024
model, given = load_predictor(sys.argv[1]), visits(1100)
with ThreadPoolExecutor(20) as pool:
    list(pool.map(lambda one: answered(*one, model), given[:100]))
    before = memory()
    answers = list(pool.map(lambda one: answered(*one, model), given[100:]))
print(len(answers), sum(isinstance(answer, tuple) for answer in answers), memory() - before)
"""


@pytest.mark.long
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc")
def test_a_thousand_uploads_by_twenty_visitors(happened):
    command = [sys.executable, "-c", VISITORS, str(FIXTURE / "model.keras")]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=True)
    count, pictures, grown = (int(word) for word in done.stdout.split())
    assert count == 1_000
    assert pictures > 400
    assert grown < 60_000
    happened("long-app", "all were answered; memory grew by less than 60 MB")


def test_an_answer_to_an_unlike_picture_says_so():
    from fracturelab.images import letterbox
    from fracturelab.prediction.likeness import describe

    pixels = np.stack([letterbox(xray(seed), SIZE) for seed in range(60)])
    likeness = describe(pixels, range(30), range(30, 60))
    model = predictor(likeness=likeness)
    uploads = [
        read_upload(f"{turn}.png", encoded(Image.fromarray(picture), "PNG"), size=SIZE)
        for turn, picture in enumerate((xray(9), 255 - xray(9)))
    ]
    like, unlike = answer_uploads(model, uploads)
    assert isinstance(like, Answer)
    assert isinstance(unlike, Answer)
    assert like.remark == ""
    assert "black and white exchanged" in unlike.remark
    assert "black and white exchanged" in answers_csv(uploads, [like, unlike], model).decode("utf-8-sig")
