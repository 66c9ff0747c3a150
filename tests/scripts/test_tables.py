"""The table of results and the places in Markdown files that it fills."""

import numpy as np
import pytest

from fracturelab.errors import FracturelabError
from fracturelab.evaluation import evaluate
from fracturelab.records import read_records
from scripts.tables import fill_markdown, results_table
from tests.records.test_records import _write


def test_table_of_one_and_of_several_evaluations(tmp_path):
    _write(tmp_path, name="a")
    good = evaluate([0, 1], [0.1, 0.9], threshold=0.5, n_bootstrap=20).to_record()
    one_class = evaluate([1, 1], [0.1, 0.9], threshold=0.5, n_bootstrap=20).to_record()
    _write(
        tmp_path, name="b", weights=None, results={"model": "v|2", "evaluations": {"val": good, "outside": one_class}}
    )
    _write(tmp_path, name="c", kind="audit", results={"images": 4})
    lines = results_table(read_records(tmp_path), metrics=["roc_auc", "recall"]).splitlines()
    assert lines[0] == "| model | weights | tested on | images | ROC AUC | sensitivity |"
    assert lines[2] == "| a | bundled | clinic phantoms | 4 | 1.000 (0.39–1.00) | 1.000 (0.34–1.00) |"
    assert lines[3].startswith("| v\\|2 | none | val | 2 | 1.000 (")
    assert lines[4] == "| v\\|2 | none | outside | 2 | – | 0.500 (0.09–0.91) |"
    assert len(lines) == 5
    assert results_table([]) == ""


class TestFillMarkdown:
    text = "# Title\r\n<!-- begin: results -->\r\nold\r\n<!-- end: results -->\r\ntail  \r\n"

    def _file(self, folder, text):
        path = folder / "README.md"
        path.write_bytes(text.encode())
        return path

    def test_it_fills_once_and_keeps_the_rest(self, tmp_path):
        path = self._file(tmp_path, self.text)
        assert fill_markdown(path, "results", "| a |\n| b |\n") is True
        filled = path.read_bytes()
        assert filled == (
            b"# Title\r\n<!-- begin: results -->\r\n\r\n| a |\r\n| b |\r\n\r\n<!-- end: results -->\r\ntail  \r\n"
        )
        assert fill_markdown(path, "results", "| a |\n| b |\n") is False
        assert path.read_bytes() == filled

    @pytest.mark.parametrize(
        "text", ["nothing", "<!-- end: results --><!-- begin: results -->", "<!-- begin: results -->" + text]
    )
    def test_missing_turned_or_doubled_comments_are_refused(self, tmp_path, text):
        path = self._file(tmp_path, text)
        with pytest.raises(FracturelabError, match="once each, in this order"):
            fill_markdown(path, "results", "x")
        assert path.read_bytes() == text.encode()

    def test_a_missing_file_is_named(self, tmp_path):
        with pytest.raises(FracturelabError, match=r"cannot read .*none\.md"):
            fill_markdown(tmp_path / "none.md", "results", "x")


def test_a_spread_over_seeds_is_of_one_part_of_the_data_and_says_which(tmp_path):
    def wrote(seed, split, sha256):
        data = {"source": "ward", "split": split, "n": 4, "sha256": sha256 * 64}
        results = evaluate([0, 1, 0, 1], [0.1, 0.9, 0.2 + seed / 4, 0.6], threshold=0.5, n_bootstrap=20).to_record()
        _write(tmp_path, name=f"{split}{sha256}{seed}", data=data, results={**results, "model": f"v1-seed{seed}"})

    def tested_on():
        lines = results_table(read_records(tmp_path), metrics=["roc_auc"]).splitlines()[2:]
        return [(cells[1].strip("* "), cells[3].strip()) for cells in (line.split("|") for line in lines)]

    for seed in range(2):
        wrote(seed, "test", "a")
    assert tested_on() == [("v1-seed0", "ward"), ("v1-seed1", "ward"), ("v1, 2 seeds", "ward")]
    wrote(0, "train", "b")
    assert sorted(tested_on()) == [
        ("v1, 2 seeds", "ward, test"),
        ("v1-seed0", "ward, test"),
        ("v1-seed0", "ward, train"),
        ("v1-seed1", "ward, test"),
    ]
    wrote(1, "train", "c")  # the same part of the same name, but other images
    assert sorted(tested_on()) == [
        ("v1, 2 seeds", "ward, test"),
        ("v1-seed0", "ward, test"),
        ("v1-seed0", f"ward, train, {'b' * 8}"),
        ("v1-seed1", "ward, test"),
        ("v1-seed1", f"ward, train, {'c' * 8}"),
    ]


def test_runs_over_seeds_get_their_spread_in_a_row(tmp_path):
    values = {}
    for seed in range(3):
        found = evaluate([0, 1, 0, 1], np.array([0.1, 0.9, 0.2 + seed / 4, 0.6]), threshold=0.5, n_bootstrap=20)
        values[seed] = found.metrics["roc_auc"].value
        _write(
            tmp_path,
            name=f"t{seed}",
            results={"model": f"v1-set-seed{seed}", "evaluations": {"test": found.to_record()}},
        )
    lines = results_table(read_records(tmp_path), metrics=["roc_auc"]).splitlines()
    assert [line.split(" | ")[0] for line in lines[2:]] == [
        "| v1-set-seed0",
        "| v1-set-seed1",
        "| v1-set-seed2",
        "| **v1-set, 3 seeds**",
    ]
    known = np.array(list(values.values()))
    assert lines[-1].endswith(f"| **{known.mean():.3f}** ± {known.std(ddof=1):.3f} |")
    assert known.std() > 0
