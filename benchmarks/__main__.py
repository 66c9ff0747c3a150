"""`python -m benchmarks`, which is `make bench`: run comparisons, print one table, write `reports/benchmarks/`."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from benchmarks.running import entry, quiet_environment


def main(argv: list[str] | None = None) -> int:
    """Run the selected comparisons.

    Returns:
        0; 1 where two sides did not do the same work; 2 where no comparison has the name that was asked for.
    """
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--only", default="*", help="a name, or a pattern such as input_*")
    parser.add_argument("--size", choices=("tiny", "default", "full"), default="default")
    arguments = parser.parse_args(argv)
    quiet_environment()
    from benchmarks import auditing, inference, memory, reading, training
    from benchmarks import results as results_files
    from benchmarks.machine import machine

    comparisons = [each for module in (training, reading, inference, auditing, memory) for each in module.COMPARISONS]
    chosen = [each for each in comparisons if fnmatchcase(each.name, arguments.only)]
    if not chosen:
        print(
            f"expected ONLY to be one of {', '.join(results_files.NAMES)}. Received: {arguments.only}", file=sys.stderr
        )
        return 2
    here = machine()
    name, cores = here["model"] or here["processor"], here["cores"]
    print(
        f"{name}, {cores} cores: {here['float32_gflops']:.0f} GFLOP/s in float32 "
        f"matrix products, copies at {here['copy_gb_per_s']:.1f} GB/s",
        flush=True,
    )
    results, failed = {}, []
    for each in chosen:
        print(f"{each.name}: {each.about}", flush=True)
        began = time.perf_counter()
        outcome = each.run(**each.sizes[arguments.size])
        seconds = time.perf_counter() - began
        new = entry(each, arguments.size, here, seconds, outcome)
        # Written at once: what is done stays, should the run be stopped.
        results = results_files.merge_benchmarks({each.name: new})
        print(
            f"{each.name}: {new['ours']:.4g} against {new['theirs']:.4g} {each.unit}, {new['ratio']:.3g} times better "
            f"({seconds:.0f} s)",
            flush=True,
        )
        failed += [f"{each.name}: {check}" for check, passed in outcome.checks.items() if not passed]
    print()
    print(results_files.benchmarks_table({each.name: results[each.name] for each in chosen}))
    for check in failed:
        print(f"does not hold: {check}")
    _picture(results, results_files.benchmarks_file().with_name("ratios.png"))
    print(f"Written to {results_files.benchmarks_file()}, and beside it as a table and as a picture.")
    return 1 if failed else 0


def _picture(results: Mapping[str, Any], path: Path) -> None:
    import matplotlib.pyplot as plt

    from benchmarks import results as results_files
    from benchmarks.figure import ratios
    from fracturelab import plots

    plt.switch_backend("Agg")
    known = [name for name in results_files.NAMES if name in results]
    figure = ratios(known, [results[name]["ratio"] for name in known]).figure
    plots.save_figure(figure, path)
    plt.close(figure)


if __name__ == "__main__":
    raise SystemExit(main())
