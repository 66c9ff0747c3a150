"""FracAtlas' fixed parts where the files are at hand."""

from __future__ import annotations

import numpy as np
import pytest

from fracturelab.audit import usable_rows
from fracturelab.audit.hashing import frequencies, hashes
from fracturelab.datasets import read_dataset
from fracturelab.splits import fracatlas_parts, with_fracatlas_parts
from tests import find_fracatlas


def test_the_stored_hashes_are_those_of_todays_hash():
    """Changing the hash makes the stored ones of FracAtlas' parts worthless: make them anew with it."""
    rows, columns = np.mgrid[:64, :64]
    thumbnail = (127 + 60 * np.sin(rows / 9.0) * np.cos(columns / 5.0) + rows * 0.7 + columns * 0.3).astype(np.uint8)
    assert f"{hashes(frequencies(thumbnail[None]))[0]:016x}" == "4a4c845153a4ac94"


@pytest.mark.long
def test_every_listed_image_is_found_by_name_and_by_picture(tmp_path):
    folder = find_fracatlas()
    if folder is None:
        pytest.skip("FracAtlas is not on this machine")
    table = with_fracatlas_parts(read_dataset(folder))
    listed = table[table["fixed"].notna()].reset_index(drop=True)
    if len(listed) < len(fracatlas_parts()):
        pytest.skip("another selection of FracAtlas")
    renamed = []
    for number, path in enumerate(listed["path"]):
        renamed.append(tmp_path / f"{number}.jpg")
        renamed[-1].symlink_to(path)
    found = usable_rows(listed.assign(path=[str(path) for path in renamed], split=None))[0]
    assert found["split"].tolist() == listed["split"].tolist()
    assert set(found["fixed"]) == {"picture"}
