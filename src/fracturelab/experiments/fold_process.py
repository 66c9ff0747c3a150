"""One fit in its own process; its result holds the probabilities of images that it was not trained on.

A fresh process makes fits equal wherever they run. The number of threads is set before TensorFlow starts, no state of
an earlier fit is left, and two fits never share a random state, in sequence, at the same time, or on another machine.
The job and the result are JSON. The process ends when the process that waits for it ends.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import traceback
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fracturelab.errors import FracturelabError
from fracturelab.pipeline import Augmentation
from fracturelab.training.checkpoints import code_digest, work_folder
from fracturelab.training.epochs import Schedule, predict
from fracturelab.training.features import FeatureStore
from fracturelab.training.fitting import Fit
from fracturelab.training.prepare import Prepared
from fracturelab.training.v1 import train_v1
from fracturelab.training.v2 import train_v2

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
_running: set[subprocess.Popen] = set()


def key_of(job: Mapping[str, Any]) -> str:
    """Checksum of everything that the result of a job depends on; paths are no part of it."""
    from fracturelab.records import package_versions, plain

    content = {name: value for name, value in job.items() if name not in ("name", "paths", "work")}
    text = json.dumps([plain(content), package_versions()], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def fit_in_process(job: Mapping[str, Any]) -> dict[str, Any]:
    """Make a fit in its own process.

    Args:
        job: `name`; of every image in `paths`, `hashes` (sha256), `labels`, `groups` and `split` ("train", "val",
            "test", or "" for left out); `size` in pixels; `recipe` "v1" or "v2" with its `options`; `weights`, from
            `weights_job`; `seed`; `threads` of the fit; `work`, a folder for checkpoints and features that may not
            exist where the fit runs; and `code`, from `code_digest`.

    Returns:
        `p_test` and `p_val` (P(fractured) of those images, in order), `threshold`, `chosen`, `candidates`, `history`,
        `recipe`, `weights`, `seconds`, and `warnings`.

    Raises:
        FracturelabError: The fit cannot be made, or its process died; the message names the job.
    """
    source = str(Path(__file__).resolve().parents[2])
    threads = str(job["threads"])
    environment = {
        **os.environ,
        **dict.fromkeys(_THREADS, threads),
        "PYTHONPATH": os.pathsep.join(filter(None, [source, os.environ.get("PYTHONPATH")])),
        "TF_NUM_INTRAOP_THREADS": threads,
        "TF_NUM_INTEROP_THREADS": threads,
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "KERAS_BACKEND": "tensorflow",
    }
    with tempfile.TemporaryFile() as log:
        child = subprocess.Popen(
            [sys.executable, "-m", "fracturelab.experiments.fold_process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env=environment,
        )
        _running.add(child)
        assert child.stdin is not None and child.stdout is not None
        try:
            with contextlib.suppress(BrokenPipeError):
                child.stdin.write(json.dumps(dict(job)).encode() + b"\n")
                child.stdin.flush()
            output = child.stdout.read()
            code = child.wait()
        finally:
            child.kill()
            child.wait()
            _running.discard(child)
            child.stdout.close()
            with contextlib.suppress(BrokenPipeError):
                child.stdin.close()
        if code == 0:
            result = json.loads(output)
            if "error" in result:
                raise FracturelabError(f"{job['name']}: {result['error']}")
            return result
        if code < 0:
            raise FracturelabError(
                f"{job['name']}: its process was killed (signal {-code}), as happens where memory runs out; start "
                "again with the same arguments, and what is finished is kept"
            )
        log.seek(0)
        lines = log.read().decode(errors="replace").strip().splitlines() or ["it printed nothing"]
        raise RuntimeError(f"{job['name']}: its process failed: {lines[-1]}\n" + "\n".join(lines[-30:]))


def stop() -> None:
    """End the fits that run in other processes."""
    for child in list(_running):
        child.kill()


def weights_job(info: Any) -> dict[str, Any]:
    """Describe weights so that another process, or another machine, can load the same."""
    return {
        "name": info.path if info.kind == "file" else info.kind,
        "sha256": info.sha256,
        "scaling": info.scaling,
        "backbone": info.backbone,
        "options": dict(info.options),
    }


def main() -> None:
    """Read a job from stdin, make its fit, and write the result to stdout."""
    job = json.loads(sys.stdin.buffer.readline())
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print must not mix with the result
    try:
        result = _fit(job)
    except FracturelabError as error:
        result = {"error": str(error)}
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    out.write(json.dumps(result).encode())
    out.flush()
    os._exit(0)  # without cleanup: a thread still waits for stdin


def _exit_with_parent() -> None:
    """End this process when the process that started it ends, for whatever reason."""
    sys.stdin.buffer.read()
    os._exit(1)


def _fit(job: dict[str, Any]) -> dict[str, Any]:
    from fracturelab.records import plain

    if job["code"] != code_digest():
        raise FracturelabError(
            "fracturelab's code is another one where this fit runs, or was changed meanwhile; have the same everywhere"
        )
    prepared = _prepared(job)
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(job["threads"])
    tf.config.threading.set_inter_op_parallelism_threads(job["threads"])
    with contextlib.ExitStack() as stack:
        caught = stack.enter_context(warnings.catch_warnings(record=True))
        warnings.simplefilter("always", UserWarning)
        work = Path(job["work"]) if job["work"] and Path(job["work"]).is_dir() else None
        if work is None:  # another machine, where the folder does not exist
            work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fracturelab-")))
        checkpoints = stack.enter_context(work_folder(work, prepared, {"key": key_of(job)}))
        fit = _train(job, prepared, store=FeatureStore(work / "stores", shared=True), checkpoints=checkpoints)
        rows = {f"p_{part}": prepared.rows(part) for part in ("test", "val")}
        probabilities = {name: predict(fit.model, prepared.images, rows=index) for name, index in rows.items()}
    messages = dict.fromkeys(str(warning.message) for warning in caught if type(warning.message) is UserWarning)
    return plain(
        {
            **probabilities,
            "threshold": fit.threshold,
            "chosen": fit.chosen,
            "candidates": fit.candidates,
            "history": fit.history.to_dict("records"),
            "recipe": fit.recipe,
            "weights": fit.weights.to_dict() if fit.weights is not None else None,
            "seconds": fit.seconds,
            "warnings": list(messages),
        }
    )


def _prepared(job: dict[str, Any]) -> Prepared:
    """The job's images in its order; they must be those that the job was made for."""
    import pandas as pd

    from fracturelab.datasets import file_hashes, make_table
    from fracturelab.images import load_images

    paths = job["paths"]
    missing = [path for path in paths if not os.path.exists(path)]
    if missing:
        raise FracturelabError(
            f"this worker does not see {missing[0]}; keep the images where every machine has them at the same path"
        )
    if file_hashes(paths) != job["hashes"]:
        raise FracturelabError("the images changed, or are others on this worker; start again")
    columns = zip(paths, job["labels"], job["groups"], job["split"], strict=True)
    table = make_table(
        {"path": path, "label": label, "group": group, "split": side or None} for path, label, group, side in columns
    )
    place = np.argsort(sorted(range(len(paths)), key=paths.__getitem__))  # the table is sorted, the job need not be
    table = table.iloc[place].reset_index(drop=True)
    pixels = load_images(paths, job["size"], progress=False)
    nothing = pd.DataFrame({"path": [], "reason": []})
    return Prepared(table, pixels, np.asarray(job["hashes"], dtype=str), nothing)


def _train(job: dict[str, Any], prepared: Prepared, *, store: FeatureStore, checkpoints: Path) -> Fit:
    from fracturelab.models.weights import resolve

    options: dict[str, Any] = {**job["options"], "seed": job["seed"], "work_dir": checkpoints, "progress": False}
    options["augmentation"] = Augmentation(**options["augmentation"])
    options["schedule"] = Schedule(**options["schedule"])
    if job["recipe"] == "v1":
        return train_v1(prepared, **options)
    wanted = job["weights"]
    info = resolve(wanted["backbone"], wanted["name"], wanted["options"])
    if (info.sha256, info.scaling) != (wanted["sha256"], wanted["scaling"]):
        raise FracturelabError(f"the {wanted['name']} weights of {wanted['backbone']} are others on this worker")
    return train_v2(prepared, weights=info, store=store, **options)


if __name__ == "__main__":
    main()
