"""Save a small model as this version saves models, with its answers: later versions must load it and answer the same.

    python scripts/save_version_fixture.py

writes `tests/fixtures/saved_by_<version>/`, once for each version; what is there already is never written again. The
weights are drawn from a seed, not trained: the fixture is about files and arithmetic, not about fractures.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from fracturelab import __version__
from fracturelab.system.quiet import load_tensorflow

ROOT = Path(__file__).resolve().parents[1]
SIZE, SEED, IMAGES = 32, 11, 6


def main() -> None:
    folder = ROOT / "tests" / "fixtures" / f"saved_by_{__version__.replace('.', '_')}"
    if folder.exists():
        raise SystemExit(f"{folder} is there already, and stays as it is")
    sys.path.insert(0, str(ROOT / "tests"))
    from hostile import xray

    load_tensorflow()
    import keras

    from fracturelab.images import letterbox
    from fracturelab.models import cnn
    from fracturelab.models.files import save_model
    from fracturelab.prediction import load_predictor
    from fracturelab.prediction.likeness import describe
    from fracturelab.records import package_versions

    cnn.FILTERS = (8, 16, 32, 64)  # v1's layers, and a file of less than a megabyte
    keras.utils.set_random_seed(SEED)
    model = cnn.build_cnn(input_size=SIZE)
    rng = np.random.default_rng(SEED)
    for layer in model.layers:  # moments and scales of batch norm as training leaves them: none is 0 or 1
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([rng.uniform(0.5, 1.5, array.shape) for array in layer.get_weights()])
    pixels = np.stack([letterbox(xray(seed), SIZE) for seed in range(120)])
    kernel = rng.normal(0, 30, (128, 1))  # steep, and then centred, so that the answers differ
    model.get_layer("p_fracture").set_weights([kernel, np.zeros(1)])
    answers = model.predict(pixels.astype(np.float32), verbose=0).astype(np.float64).clip(1e-6, 1 - 1e-6)
    model.get_layer("p_fracture").set_weights([kernel, -np.median(np.log(answers / (1 - answers)), axis=0)])
    likeness = describe(pixels, range(60), range(60, 120))
    assert likeness is not None
    (folder / "images").mkdir(parents=True)
    for number in range(IMAGES):
        Image.fromarray(xray(500 + number)).save(folder / "images" / f"{number}.png", optimize=True)
    card = {
        "name": "v1, small",
        "kind": "v1",
        "threshold": 0.5,
        "input_size": SIZE,
        "versions": package_versions(),
        "likeness": likeness.to_dict(),
        "use": "For tests. Not for clinical use.",
    }
    path = save_model(model, folder / "model.keras", card)
    table = load_predictor(path, runtime="keras").predict(folder / "images")
    expected = {Path(name).name: round(p, 7) for name, p in zip(table["path"], table["probability"], strict=True)}
    (folder / "expected.json").write_text(json.dumps(expected, indent=1) + "\n", encoding="utf-8")
    print(folder.relative_to(ROOT), path.stat().st_size, expected)


if __name__ == "__main__":
    main()
