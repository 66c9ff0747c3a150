"""The machine: its description, and its measured limits in matrix products and copies."""

from __future__ import annotations

import os
import platform
import time
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fracturelab import records

if TYPE_CHECKING:
    import keras


def machine() -> dict[str, Any]:
    """Describe the machine, with its memory and its measured limits."""
    return {
        **records.machine(),
        "model": _processor(),
        "memory_gb": _memory_gb(),
        "float32_gflops": round(matrix_product(), 1),
        "copy_gb_per_s": round(copy_speed(), 2),
        "packages": records.package_versions(),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")


def _memory_gb() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1)
    except (AttributeError, ValueError, OSError):
        return None


def _best_seconds(work, times: int = 9, least: float = 1.0) -> float:
    """The shortest of several runs over at least `least` seconds; other work on the machine does not lower it."""
    work()
    measured: list[float] = []
    while len(measured) < times or sum(measured) < least:
        began = time.perf_counter()
        work()
        measured.append(time.perf_counter() - began)
    return min(measured)


SIDES = (512, 1024, 2048)
"""Sides of the square matrices whose products are timed; the fastest size depends on the caches."""


@cache
def matrix_product() -> float:
    """Highest GFLOP/s of a product of two float32 matrices with NumPy, on all cores."""
    return max(map(_product, SIDES))


def _product(side: int) -> float:
    rng = np.random.default_rng(0)
    first, second = rng.random((side, side), np.float32), rng.random((side, side), np.float32)
    return 2 * side**3 / _best_seconds(lambda: first @ second) / 1e9


@cache
def fastest_product(precision: str) -> float:
    """The same with OpenVINO, in a precision: "float32", "bf16" or "int8" (operations instead of FLOPs there).

    In float32 the higher value of both is returned.
    """
    measured = max(_product_openvino(precision, side) for side in SIDES)
    return max(measured, matrix_product()) if precision == "float32" else measured


def _product_openvino(precision: str, side: int) -> float:
    import openvino
    from openvino import opset13 as ops

    rng = np.random.default_rng(0)
    data = ops.parameter([side, side], np.float32)
    weights = ops.constant(rng.random((side, side), np.float32))
    if precision == "int8":
        low, high = (ops.constant(np.float32(value)) for value in (0.0, 1.0))
        left = ops.fake_quantize(data, low, high, low, high, 256)
        minus = ops.constant(np.float32(-1.0))
        right = ops.fake_quantize(weights, minus, high, minus, high, 255)
    else:
        left, right = data, weights
    network = openvino.Model([ops.matmul(left, right, False, False)], [data])
    hint = "bf16" if precision == "bf16" else "f32"
    compiled = openvino.Core().compile_model(network, "CPU", {"INFERENCE_PRECISION_HINT": hint})
    request = compiled.create_infer_request()
    request.set_input_tensor(openvino.Tensor(rng.random((side, side), np.float32)))
    return 2 * side**3 / _best_seconds(request.infer) / 1e9


@cache
def copy_speed(megabytes: int = 256) -> float:
    """GB/s that a copy of a large array reads and writes in total."""
    source = np.ones(megabytes * 2**20 // 4, np.float32)
    target = np.empty_like(source)
    return 2 * source.nbytes / _best_seconds(lambda: np.copyto(target, source)) / 1e9


def flops(model: keras.Model) -> float:
    """FLOPs of one image in a model's convolutions and dense layers; a multiplication and an addition count as two."""
    import keras

    total = 0.0
    for layer in model.layers:
        if isinstance(layer, keras.layers.DepthwiseConv2D):
            total += 2 * np.prod(layer.output.shape[1:]) * np.prod(layer.kernel_size)
        elif isinstance(layer, keras.layers.Conv2D):
            inputs = int(layer.kernel.shape[2])
            total += 2 * np.prod(layer.output.shape[1:]) * np.prod(layer.kernel_size) * inputs
        elif isinstance(layer, keras.layers.Dense):
            total += 2 * np.prod(layer.kernel.shape)
    return float(total)
