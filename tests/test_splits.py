"""Splits: no group on two sides, every class on every side, the same for the same seed whatever the row order."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import StratifiedGroupKFold

from fracturelab.errors import FracturelabError
from fracturelab.splits import (
    assign_groups,
    fracatlas_parts,
    fracatlas_sentence,
    holdout_split,
    kfold,
    with_fracatlas_parts,
)


def make_table(labels, groups=None, split=None) -> pd.DataFrame:
    count = len(labels)
    return pd.DataFrame(
        {
            "path": [f"/data/{number:05d}.png" for number in range(count)],
            "label": pd.array(labels, dtype="Int64"),
            "group": pd.array([f"g{number}" for number in range(count)] if groups is None else groups, dtype="string"),
            "split": pd.array([pd.NA] * count if split is None else split, dtype="string"),
            "source": pd.array(["made"] * count, dtype="string"),
            "kind": pd.array([pd.NA] * count, dtype="string"),
            "study": pd.array([pd.NA] * count, dtype="string"),
        }
    )


def random_table(seed: int, count: int = 600, prevalence: float = 0.2) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    groups = rng.integers(0, count // 3, count)
    labels = (rng.random(count // 3) < prevalence).astype(int)[groups]
    labels = np.where(rng.random(count) < 0.05, 1 - labels, labels)  # some groups hold both labels
    return make_table(labels.tolist(), [f"p{group}" for group in groups])


def sides_of_groups(table: pd.DataFrame) -> pd.Series:
    return table.dropna(subset="split").groupby("group")["split"].nunique()


@pytest.mark.parametrize("seed", range(5))
def test_holdout_keeps_groups_whole_and_hits_the_shares_in_both_classes(seed):
    table = random_table(seed)
    result = holdout_split(table, val=0.15, test=0.2, seed=seed)
    assert sides_of_groups(result).max() == 1
    assert result["split"].notna().all()
    for label in (0, 1):
        shares = result.loc[result["label"] == label, "split"].value_counts(normalize=True)
        assert shares["val"] == pytest.approx(0.15, abs=0.02)
        assert shares["test"] == pytest.approx(0.20, abs=0.02)


def test_single_image_groups_land_within_one_image_of_the_shares():
    result = holdout_split(make_table([0] * 137 + [1] * 41), val=0.15, test=0.15)
    counts = result.groupby("label")["split"].value_counts()
    for label, total in ((0, 137), (1, 41)):
        for side, share in (("train", 0.7), ("val", 0.15), ("test", 0.15)):
            assert abs(counts[label, side] - share * total) <= 1


def test_holdout_leaves_the_input_and_every_other_column_alone():
    table = random_table(0)
    before = table.copy(deep=True)
    result = holdout_split(table)
    pd.testing.assert_frame_equal(table, before)
    pd.testing.assert_frame_equal(result.drop(columns="split"), before.drop(columns="split"))


def test_a_split_follows_from_the_seed_and_not_from_the_row_order():
    table = random_table(3)
    first = holdout_split(table, seed=7)
    shuffled = holdout_split(table.sample(frac=1, random_state=1).reset_index(drop=True), seed=7)
    again = shuffled.sort_values("path").reset_index(drop=True)
    assert first["split"].tolist() == again["split"].tolist()
    assert first["split"].tolist() != holdout_split(table, seed=8)["split"].tolist()


def test_published_test_stays_and_val_is_cut_from_train():
    table = random_table(1)
    groups = sorted(set(table["group"]))
    test_groups = set(groups[::4])
    table["split"] = pd.array(["test" if g in test_groups else "train" for g in table["group"]], dtype="string")
    result = holdout_split(table, val=0.15)
    assert ((result["split"] == "test") == (table["split"] == "test")).all()
    assert (result["split"] == "val").mean() == pytest.approx(0.15, abs=0.01)
    assert sides_of_groups(result).max() == 1


def test_rows_without_a_published_split_are_shared_out_beside_a_published_test():
    table = make_table([0, 1] * 50, split=["test"] * 20 + [pd.NA] * 80)
    result = holdout_split(table, val=0.2)
    assert result["split"].value_counts().to_dict() == {"train": 60, "val": 20, "test": 20}
    assert (result["split"][:20] == "test").all()


def test_a_missing_test_is_cut_where_only_train_and_val_are_published():
    table = make_table([0, 1] * 50, split=["val"] * 20 + ["train"] * 80)
    result = holdout_split(table, test=0.3)
    assert (result["split"][:20] == "val").all()
    assert (result["split"] == "test").sum() == 30


def test_a_group_on_two_published_sides_keeps_the_test_whole_and_says_so():
    split = ["test"] * 20 + ["val"] * 20 + ["train"] * 60
    groups = [f"g{number}" for number in range(100)]
    groups[20] = groups[41] = groups[42] = groups[0]  # one in val and two in train share the patient of a test image
    groups[43] = groups[25]  # and one in train that of a val image
    table = make_table([0, 1] * 50, groups, split)
    with pytest.warns(UserWarning, match="4 images are left out"):
        result = holdout_split(table)
    assert (result["split"] == "test").fillna(False).tolist() == [side == "test" for side in split]
    assert result.index[result["split"].isna()].tolist() == [20, 41, 42, 43]
    assert sides_of_groups(result).max() == 1


def test_zero_shares_make_no_such_side():
    result = holdout_split(make_table([0, 1] * 20), val=0.25, test=0)
    assert set(result["split"]) == {"train", "val"}


def test_unlabelled_rows_are_left_out():
    table = make_table([0, 1] * 20 + [pd.NA] * 5)
    table.loc[40:, "group"] = pd.NA
    result = holdout_split(table)
    assert result["split"].isna().tolist() == [False] * 40 + [True] * 5
    for train, val in kfold(table, folds=4):
        assert max(train.max(), val.max()) < 40


@pytest.mark.parametrize(
    ("table", "match"),
    [
        (make_table([0] * 30), "no fractured image"),
        (make_table([1] * 30), "no normal image"),
        (make_table([0] * 30 + [1] * 2), r"the (train|val|test) part would have no fractured image.* 2 in 2 groups"),
        (
            make_table([0] * 30 + [1] * 9, [f"g{n}" for n in range(30)] + ["one"] * 9),
            "no fractured image.* 9 in 1 groups",
        ),
        (make_table([pd.NA] * 4), "none of the 4 images has a label"),
        (make_table([0, 1] * 4, [pd.NA] * 8), "8 of 8 images have no group.*with_groups"),
        (make_table([0, 1] * 20, split=["test"] * 40), "the train part would have no normal image"),
        (make_table([0] * 10 + [1] * 30, split=["test"] * 10 + ["train"] * 30), "the train part would have no normal"),
    ],
)
def test_what_cannot_be_split_is_refused_by_name(table, match):
    with pytest.raises(FracturelabError, match=match):
        holdout_split(table)


@pytest.mark.parametrize("shares", [(0.5, 0.5), (-0.1, 0.2)])
def test_impossible_shares_are_refused(shares):
    with pytest.raises(ValueError, match="expected val and test"):
        holdout_split(make_table([0, 1] * 20), val=shares[0], test=shares[1])


@pytest.mark.parametrize("seed", range(3))
def test_kfold_validates_every_row_once_and_keeps_groups_whole(seed):
    table = random_table(seed)
    seen = np.zeros(len(table), int)
    for train, val in kfold(table, folds=5, seed=seed):
        seen[val] += 1
        assert sorted([*train, *val]) == list(range(len(table)))
        assert not set(table["group"].iloc[train]) & set(table["group"].iloc[val])
    assert (seen == 1).all()


def test_kfold_is_at_least_as_balanced_as_scikit_learn():
    def worst(table, parts):
        labels = table["label"].to_numpy(int)
        return max(abs(labels[val].sum() - labels.sum() / 5) + abs(len(val) - len(labels) / 5) for _, val in parts)

    ours = theirs = 0.0
    for seed in range(5):
        table = random_table(seed)
        ours += worst(table, kfold(table, folds=5, seed=seed))
        splitter = StratifiedGroupKFold(5, shuffle=True, random_state=seed)
        theirs += worst(table, splitter.split(table, table["label"].to_numpy(int), table["group"]))
    assert ours <= theirs


def test_kfold_refuses_a_fold_without_a_class_and_names_it():
    with pytest.raises(FracturelabError, match=r"validation part of fold \d of 5 would have no fractured image"):
        kfold(make_table([0] * 50 + [1] * 4), folds=5)
    with pytest.raises(FracturelabError, match=r"training part of fold \d of 2 would have no fractured|validation"):
        kfold(make_table([0] * 50 + [1] * 4, [f"g{n}" for n in range(50)] + ["one"] * 4), folds=2)
    with pytest.raises(ValueError, match="at least 2 folds"):
        kfold(make_table([0, 1] * 10), folds=1)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_assign_groups_never_tears_a_group_apart(data):
    count = data.draw(st.integers(1, 60))
    labels = np.array(data.draw(st.lists(st.integers(0, 1), min_size=count, max_size=count)))
    groups = np.array(data.draw(st.lists(st.integers(0, 12), min_size=count, max_size=count)))
    shares = data.draw(st.lists(st.floats(0.05, 1), min_size=2, max_size=5))
    side = assign_groups(labels, groups, shares, seed=data.draw(st.integers(0, 99)))
    assert side.min() >= 0
    assert side.max() < len(shares)
    for group in set(groups):
        assert len(set(side[groups == group])) == 1


def test_the_fixed_parts_name_images():
    parts = fracatlas_parts()
    assert parts["part"].value_counts().to_dict() == {"test": 856, "val": 300}
    assert parts["image"].is_unique
    assert parts["image"].str.fullmatch(r"IMG\d{7}").all()
    assert parts["hash"].dtype == np.uint64


def listed(part, count):
    return fracatlas_parts().query("part == @part").head(count)


def parts_table(names, labels=None):
    table = make_table(labels or [0, 1] * (len(names) // 2) + [0] * (len(names) % 2), [pd.NA] * len(names))
    return table.assign(path=[f"/anywhere/{name}" for name in names])


def test_fixed_parts_are_known_by_name_in_any_spelling_of_exports():
    first, second = listed("test", 2)["image"]
    third, fourth = listed("val", 2)["image"]
    names = [f"{first}.jpg", f"{second}_jpg.rf.0a1b.jpg", f"{third}.png", f"{fourth}.jpg"]
    names += ["IMG0000002.jpg", "other.jpg", f"{first}9.jpg"]
    table = parts_table(names).assign(split=pd.array([pd.NA] * 4 + ["test", "test", pd.NA], dtype="string[python]"))
    result = with_fracatlas_parts(table)
    assert result["split"].fillna("-").tolist() == ["test", "test", "val", "val", "train", "test", "-"]
    assert result["fixed"].fillna("-").tolist() == ["name"] * 4 + ["-"] * 3
    said = fracatlas_sentence(result)
    assert said.startswith("2 images are FracAtlas' fixed test part and 2 its validation part (4 by name)")
    assert fracatlas_sentence(table) is None
    assert table["split"].isna().sum() == 5


def test_other_data_sets_keep_their_split():
    table = parts_table(["IMG0000002.jpg", "a.jpg"]).assign(split=pd.array(["test", pd.NA], dtype="string[python]"))
    result = with_fracatlas_parts(table, hashes=np.zeros((2, 8), np.uint64))
    assert result["split"].fillna("-").tolist() == ["test", "-"]
    assert fracatlas_sentence(result) is None


def test_renamed_files_are_known_by_picture_in_any_orientation():
    own = listed("test", 1)["hash"].to_numpy()[0]
    hashes = np.full((4, 8), 1, np.uint64)
    hashes[0, 3] = own ^ np.uint64(0b101)
    hashes[1, 0] = own ^ np.uint64(0b111)
    hashes[2] = 0
    result = with_fracatlas_parts(parts_table(["a.jpg", "b.jpg", "c.jpg", "IMG0000002.jpg"]), hashes=hashes)
    assert result["split"].fillna("-").tolist() == ["test", "-", "-", "train"]
    assert result["fixed"].fillna("-").tolist() == ["picture", "-", "-", "-"]


def test_a_validation_part_of_one_class_is_left_to_the_seed():
    names = [f"{name}.jpg" for name in [*listed("val", 2)["image"], *listed("test", 2)["image"]]]
    result = with_fracatlas_parts(parts_table(names, [0, 0, 0, 1]))
    assert result["split"].fillna("-").tolist() == ["train", "train", "test", "test"]
