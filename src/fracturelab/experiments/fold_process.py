"""One fit in a process of its own, which answers for images that it has not seen.

A fresh process makes fits equal wherever they run: the number of threads is set before TensorFlow starts, nothing of an
earlier fit is left, and two fits never share a random state, whether they run one after another, side by side, or on
another machine. The job and the answer are JSON; the process ends when whoever waits for it does.
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
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from fracturelab.errors import FracturelabError

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
_CODE = ("experiments", "training", "models", "images", "evaluation", "pipeline.py", "splits.py")
_running: set[subprocess.Popen] = set()


@cache
def code_digest() -> str:
    """Checksum of the source of everything that a fit follows from."""
    package = Path(__file__).resolve().parents[1]
    digest = hashlib.sha256()
    for name in _CODE:
        place = package / name
        for path in [place] if place.is_file() else sorted(place.rglob("*.py")):
            digest.update(path.relative_to(package).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def key_of(job: Mapping[str, Any]) -> str:
    """Checksum of everything that a job's answer depends on; where its files lie is not among it."""
    from fracturelab.records import package_versions, plain

    content = {name: value for name, value in job.items() if name not in ("name", "paths", "work")}
    text = json.dumps([plain(content), package_versions()], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def fit_apart(job: Mapping[str, Any]) -> dict[str, Any]:
    """Do a job in a process of its own.

    Args:
        job: `name`; of every image in `paths`, `hashes` (sha256), `labels`, `groups` and `split` ("train", "val",
            "test", or "" for left out); `size` in pixels; `recipe` "v1" or "v2" with its `options`; `weights`, what
            `weights_job` gives; `seed`; `threads` of the fit; `work`, a folder for checkpoints and stores that may not
            exist where the job is done; and `code`, as `code_digest`.

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
    with tempfile.TemporaryFile() as said:
        child = subprocess.Popen(
            [sys.executable, "-m", "fracturelab.experiments.fold_process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=said,
            env=environment,
        )
        _running.add(child)
        assert child.stdin is not None and child.stdout is not None
        try:
            with contextlib.suppress(BrokenPipeError):
                child.stdin.write(json.dumps(dict(job)).encode() + b"\n")
                child.stdin.flush()
            told = child.stdout.read()
            code = child.wait()
        finally:
            child.kill()
            child.wait()
            _running.discard(child)
            child.stdout.close()
            with contextlib.suppress(BrokenPipeError):
                child.stdin.close()
        if code == 0:
            answer = json.loads(told)
            if "error" in answer:
                raise FracturelabError(f"{job['name']}: {answer['error']}")
            return answer
        if code < 0:
            raise FracturelabError(
                f"{job['name']}: its process was killed (signal {-code}), as happens where memory runs out; start "
                "again with the same arguments, and what is finished is kept"
            )
        said.seek(0)
        lines = said.read().decode(errors="replace").strip().splitlines() or ["it said nothing"]
        raise RuntimeError(f"{job['name']}: its process failed: {lines[-1]}\n" + "\n".join(lines[-30:]))


def stop() -> None:
    """End the fits that run apart from this process."""
    for child in list(_running):
        child.kill()


def weights_job(info: Any) -> dict[str, Any]:
    """Say which weights to start from, so that another process, or another machine, can find the same."""
    ask = info.path if info.kind == "file" else info.kind
    return {
        "ask": ask,
        "sha256": info.sha256,
        "scaling": info.scaling,
        "backbone": info.backbone,
        "options": dict(info.options),
    }


def main() -> None:
    """Read a job from stdin, do it, and write the answer to stdout."""
    job = json.loads(sys.stdin.buffer.readline())
    threading.Thread(target=_leave_with_the_other_end, daemon=True).start()
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints is not the answer
    try:
        answer = _fit(job)
    except FracturelabError as error:
        answer = {"error": str(error)}
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    out.write(json.dumps(answer).encode())
    out.flush()
    os._exit(0)  # without tidying up: a thread still waits for stdin


def _leave_with_the_other_end() -> None:
    """End this process when the one that started it is gone, however it went."""
    sys.stdin.buffer.read()
    os._exit(1)


def _fit(job: dict[str, Any]) -> dict[str, Any]:
    from fracturelab.records import plain
    from fracturelab.training import saving
    from fracturelab.training.fitting import predict

    if job["code"] != code_digest():
        raise FracturelabError(
            "fracturelab's code is another one where this fit runs, or was changed meanwhile; have the same everywhere"
        )
    prepared = _prepared(job)
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(job["threads"])
    tf.config.threading.set_inter_op_parallelism_threads(job["threads"])
    with contextlib.ExitStack() as stack:
        heard = stack.enter_context(warnings.catch_warnings(record=True))
        warnings.simplefilter("always", UserWarning)
        work = Path(job["work"]) if job["work"] and Path(job["work"]).is_dir() else None
        if work is None:  # another machine, which does not see the folder
            work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fracturelab-")))
        checkpoints = stack.enter_context(saving.work_folder(work, prepared, {"key": key_of(job)}))
        fit = _train(job, prepared, stores=work / "stores", checkpoints=checkpoints)
        answers = {
            f"p_{part}": predict(fit.model, prepared.images, rows=prepared.rows(part)) for part in ("test", "val")
        }
    said = dict.fromkeys(str(one.message) for one in heard if type(one.message) is UserWarning)
    return plain(
        {
            **answers,
            "threshold": fit.threshold,
            "chosen": fit.chosen,
            "candidates": fit.candidates,
            "history": fit.history.to_dict("records"),
            "recipe": fit.recipe,
            "weights": fit.weights.to_dict() if fit.weights is not None else None,
            "seconds": fit.seconds,
            "warnings": list(said),
        }
    )


def _prepared(job: dict[str, Any]) -> Any:
    """The job's images, which must be those that it was made for, in the job's order."""
    import pandas as pd

    from fracturelab.datasets import file_hashes, make_table
    from fracturelab.images import load_images
    from fracturelab.training.prepare import Prepared

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


def _train(job: dict[str, Any], prepared: Any, *, stores: Path, checkpoints: Path) -> Any:
    from fracturelab.models.weights import resolve
    from fracturelab.pipeline import Augmentation
    from fracturelab.training import train_v1, train_v2

    options = dict(job["options"])
    known = {one.name for one in fields(Augmentation)}
    options["augmentation"] = Augmentation(**{k: v for k, v in options["augmentation"].items() if k in known})
    common = {"seed": job["seed"], "work_dir": checkpoints, "progress": False}
    if job["recipe"] == "v1":
        return train_v1(prepared, **options, **common)
    asked = job["weights"]
    info = resolve(asked["backbone"], asked["ask"], asked["options"])
    if (info.sha256, info.scaling) != (asked["sha256"], asked["scaling"]):
        raise FracturelabError(f"the {asked['ask']} weights of {asked['backbone']} are others on this worker")
    return train_v2(
        prepared,
        backbone=asked["backbone"],
        backbone_options=asked["options"],
        weights=info,
        store_dir=stores,
        shared_stores=True,
        **options,
        **common,
    )


if __name__ == "__main__":
    main()
