"""The report of the table: whole or not at all, and in the repository as the table stands."""

from __future__ import annotations

import pytest

from tests.hostile import cases as hostile
from tests.hostile import robustness

LONG = [row.key for row in hostile.ROWS if row.section in (hostile.LONG, hostile.MACHINES)]
SHORT = [row.key for row in hostile.ROWS if row.key not in LONG]


def answers(keys: list[str], text: str = "left out") -> dict[str, str]:
    return dict.fromkeys(keys, text)


def test_the_committed_report_has_every_row_of_the_table():
    text = robustness.REPORT.read_text(encoding="utf-8")
    listed = [line.split(" | ")[:2] for line in text.splitlines() if line.startswith("| ")]
    wanted = [[f"| {robustness.cell(row.given)}", robustness.cell(row.must)] for row in hostile.ROWS]
    said = [cells for cells in listed if cells[0] not in ("| Input", "| ---")]
    assert said == wanted, "the table has changed since the report was written; a whole `make test` writes it anew"
    happened = robustness.lines_of(text)
    for key in SHORT:
        assert happened[robustness.cell(hostile.BY_KEY[key].given)] not in ("", robustness.NOT_YET), key


def test_it_is_written_only_when_every_row_ran(tmp_path):
    path = tmp_path / "robustness.md"
    assert not robustness.write(answers(SHORT[1:]), path)
    assert not robustness.write(answers(LONG), path)  # there is nothing yet that they could be added to
    assert not path.exists()
    assert robustness.write(answers(SHORT), path)
    assert robustness.NOT_YET in path.read_text()
    assert not robustness.write(answers(SHORT), path)  # nothing new
    assert [name.name for name in tmp_path.iterdir()] == ["robustness.md"]


def test_long_rows_are_kept_and_added_one_at_a_time(tmp_path):
    path = tmp_path / "robustness.md"
    robustness.write(answers(SHORT, "short"), path)
    assert robustness.write(answers(LONG[:1], "first"), path)
    assert robustness.write(answers(LONG[1:2], "second"), path)
    assert not robustness.write({**answers(SHORT[:3], "else"), **answers(LONG[:1], "again")}, path)
    assert robustness.write(answers(SHORT, "newer"), path)
    found = robustness.lines_of(path.read_text())
    cells = {key: found[robustness.cell(row.given)] for key, row in hostile.BY_KEY.items()}
    assert [cells[key] for key in LONG[:3]] == ["first", "second", robustness.NOT_YET]
    assert {cells[key] for key in SHORT} == {"newer"}


@pytest.mark.parametrize("text", ["a | b", "two\nlines", "<script>", "\\| and | more"])
def test_text_stays_in_its_cell(text):
    whole = robustness.report({**answers(SHORT), SHORT[0]: text})
    assert whole is not None
    [line] = [line for line in whole.splitlines() if line.startswith(f"| {hostile.ROWS[0].given} |")]
    assert line.count(" | ") - line.count("\\| ") <= 2
    assert "<script" not in whole
    assert robustness.lines_of(whole)[hostile.ROWS[0].given] == robustness.cell(text)


def test_a_row_that_is_not_in_the_table_is_refused(happened):
    with pytest.raises(AssertionError, match="no row of the table"):
        happened("no such row", "anything")
