"""The planted faults are there, and the audit finds them."""

from fracturelab.audit import audit_dataset
from fracturelab.datasets import list_other_files, read_dataset
from fracturelab.phantoms import plant_faults, write_set


def test_the_audit_finds_what_was_planted(tmp_path):
    table = read_dataset(write_set(tmp_path / "set", n=24, size=96, seed=3, zoom=(3.0, 5.0)))
    planted = plant_faults(table, tmp_path / "faulty")
    report = audit_dataset(read_dataset(tmp_path / "faulty"), others=list_other_files(tmp_path / "faulty"))
    leak = report.facts.cross_split["test->train"]
    assert leak["identical"] == planted["byte-identical copy across the split"]
    copies = sum(number for name, number in planted.items() if "across the split" in name)
    assert leak["near"] >= copies
    assert len(report.unreadable) >= planted["file that cannot be read"]
    assert report.facts.label_conflicts == planted["image under both labels"]
