"""`make bench`: the shape of its results, that both sides do the same work, and the table it fills. No times."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import auditing, data, inference, memory, reading, running, theirs, training
from benchmarks import results as results_files
from benchmarks.running import Outcome, entry
from fracturelab.errors import FracturelabError
from fracturelab.records.files import EditedRecordError

ROOT = Path(__file__).resolve().parents[2]
COMPARISONS = [one for module in (training, reading, inference, auditing, memory) for one in module.COMPARISONS]


def bench(reports: Path, *arguments: str) -> tuple[dict, subprocess.CompletedProcess]:
    environment = {**os.environ, "FRACTURELAB_REPORTS": str(reports), "PYTHONPATH": f"{ROOT / 'src'}"}
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--size", "tiny", *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    path = reports / "benchmarks" / "results.json"
    return (json.loads(path.read_text()) if path.is_file() else {}), done


def made_up(name: str, *, ours: float = 2.0, theirs: float = 8.0) -> dict:
    comparison = next(one for one in COMPARISONS if one.name == name)
    outcome = Outcome([ours, ours * 3, ours], [theirs], 1.0, {"the same": True}, {"images": 5})
    return entry(comparison, "tiny", {"cores": 2}, 1.0, outcome)


def test_every_promised_comparison_is_there_in_every_size():
    assert tuple(one.name for one in COMPARISONS) == results_files.NAMES
    for one in COMPARISONS:
        assert set(one.sizes) == {"tiny", "default", "full"}
        assert one.sizes["full"]["repetitions"] >= 3
        trains = one.name.startswith(("v2_", "training_"))  # once, within 90 s
        assert trains or one.sizes["default"]["repetitions"] >= 3
        assert one.about.endswith(".") and one.limit_is.endswith(".")
        for settings in one.sizes.values():
            if settings.get("pretrained") and settings["backbone"] != inference.SHIPPED.stem:
                start = training.starting_point(backbone=settings["backbone"], options={}, weights="bundled")
                assert Path(start["weights"]).is_file()


@pytest.mark.long
def test_a_tiny_run_writes_results_and_finds_every_planted_copy(tmp_path):
    results, done = bench(tmp_path, "--only", "audit_40000")
    assert done.returncode == 0, done.stderr + done.stdout
    assert set(results) == {"audit_40000", "machine"}
    one = results["audit_40000"]
    assert {"ours", "theirs", "ratio", "limit", "unit", "machine"} <= set(one)
    assert one["unit"] == "s" and one["size"] == "tiny"
    assert one["ratio"] == pytest.approx(one["theirs"] / one["ours"])
    assert one["limit"] > 0 and one["machine"]["cores"] >= 1 and one["machine"]["float32_gflops"] > 0
    assert one["details"]["planted"] == one["details"]["found"]["ours"] == 4
    assert one["details"]["false_pairs"]["ours"] == 0
    assert one["details"]["largest_group"]["ours"] == 2
    assert "| audit_40000 | tiny | s |" in done.stdout
    assert "| audit_40000 | tiny | s |" in (tmp_path / "benchmarks" / "results.md").read_text()
    assert bench(tmp_path, "--only", "nothing")[1].returncode == 2


@pytest.mark.long
def test_a_tiny_training_trains_the_same_on_both_sides(tmp_path):
    results, done = bench(tmp_path, "--only", "v2_*")
    assert set(results) == {"v2_head_20_epochs", "v2_finetune_10_epochs", "machine"}, done.stderr
    head, further = results["v2_head_20_epochs"]["details"], results["v2_finetune_10_epochs"]["details"]
    assert head["images"] == further["images"] == [32, 8]
    assert further["store_megabytes"] > 0
    assert results["v2_finetune_10_epochs"]["checks"]["as many epochs as asked for"]


def test_a_run_of_one_comparison_leaves_the_others(tmp_path):
    path = tmp_path / "benchmarks" / "results.json"
    results_files.merge_benchmarks({"audit_40000": made_up("audit_40000")}, path)
    first = results_files.read_benchmarks(path)
    results_files.merge_benchmarks({"input_first_pass": made_up("input_first_pass")}, path)
    second = results_files.read_benchmarks(path)
    assert list(second) == ["input_first_pass", "audit_40000", "machine"]
    assert second["audit_40000"] == first["audit_40000"]
    assert second["audit_40000"]["ratio"] == 4.0  # seconds: fewer are better, medians
    assert second["input_first_pass"]["ratio"] == 0.25  # images a second: more are better
    assert second["audit_40000"]["limit_share"] == 0.5
    assert second["input_first_pass"]["limit_share"] == 2.0
    with pytest.raises(ValueError, match="expected a name out of"):
        results_files.merge_benchmarks({"nothing": made_up("audit_40000")}, path)


def test_results_edited_by_hand_or_damaged_are_refused(tmp_path):
    path = tmp_path / "benchmarks" / "results.json"
    results_files.merge_benchmarks({"audit_40000": made_up("audit_40000")}, path)
    path.write_text(path.read_text().replace('"ratio": 4.0', '"ratio": 9.0'))
    with pytest.raises(EditedRecordError, match="was changed after the run"):
        results_files.read_benchmarks(path)
    path.write_text("{")
    with pytest.raises(FracturelabError, match="make bench"):
        results_files.read_benchmarks(path)
    assert results_files.read_benchmarks(tmp_path / "none.json") == {}


def test_a_documents_table_is_filled_from_results(tmp_path, capsys):
    from scripts.__main__ import main

    document = tmp_path / "README.md"
    document.write_text("<!-- begin: benchmarks input_* -->\n<!-- end: benchmarks input_* -->\n")
    path = tmp_path / "benchmarks" / "results.json"
    for name in ("input_first_pass", "audit_40000"):
        results_files.merge_benchmarks({name: made_up(name)}, path)
    assert main(["fill", str(document), "--folder", str(tmp_path / "results")]) == 0
    text = document.read_text()
    assert "| input_first_pass | tiny | images/s | 2 | 8 | 0.25 | 1 | 200% |" in text
    assert "audit_40000" not in text
    failed = {**made_up("audit_40000"), "checks": {"all found": False}}
    assert "4 (all found: no)" in results_files.benchmarks_table({"audit_40000": failed})


def test_audited_pictures_are_different_and_planted_copies_are_copies(monkeypatch, tmp_path):
    from tests.audit import near_duplicate_groups

    monkeypatch.setenv("FRACTURELAB_CACHE", str(tmp_path))
    place = data.audited_set(150)
    paths = data.picture_files(place)
    assert len(paths) == 150
    groups = near_duplicate_groups(paths)
    row = {Path(path).name: number for number, path in enumerate(paths)}
    planted = data.planted_pairs(place)
    assert len(planted) == 3
    assert all(groups[row[first]] == groups[row[second]] for first, second in planted)
    assert len(set(groups)) == 147
    pairs = theirs.find_copies(paths=paths)["pairs"].T.tolist()
    assert all(sorted((row[first], row[second])) in pairs for first, second in planted)


def test_watch_sees_what_is_held():
    with memory.Watch(0.01) as idle:
        pass
    with memory.Watch(0.01) as watch:
        held = np.ones(40_000_000, np.float32)
        watch._end.wait(0.2)
    assert watch.peak_mb > idle.peak_mb + 100
    assert held[0] == 1


def test_a_side_lets_joblibs_processes_go():
    """Where they stay, the end of a side's process waits five minutes for them."""
    import multiprocessing

    from joblib import Parallel, delayed

    Parallel(2, backend="loky")(delayed(os.getpid)() for _ in range(4))
    started = {child.pid for child in multiprocessing.active_children()}
    assert started
    running._end_workers()
    assert not started & {child.pid for child in multiprocessing.active_children()}
