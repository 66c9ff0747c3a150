"""The audit on real files: what is planted is found and counted, and the verdict follows."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fracturelab.audit import audit_dataset, usable_rows, with_groups
from fracturelab.audit.leakage import groups_across_splits, shared_between_splits
from fracturelab.audit.names import pairs_by_name
from fracturelab.audit.reading import read_files
from fracturelab.audit.shortcuts import auc_margin, shortcut_scores
from fracturelab.audit.verdict import Facts, give_verdict, list_findings
from fracturelab.datasets import make_table
from fracturelab.errors import FracturelabError
from tests.audit import near_duplicate_groups

KEYS = [
    "images",
    "unreadable",
    "no_images",
    "exact_duplicates",
    "near_duplicate_groups",
    "label_conflicts",
    "cross_split",
    "shortcuts",
    "verdict",
]


def picture(seed: int) -> np.ndarray:
    """Texture of several scales on a bright shaft; different for each seed."""
    rng = np.random.default_rng(seed)
    texture = np.zeros((150, 120))
    for cells in (4, 10, 25):
        coarse = Image.fromarray(rng.standard_normal((cells, cells)).astype(np.float32))
        texture += np.asarray(coarse.resize((120, 150), Image.Resampling.BICUBIC)) / cells**0.5
    shaft = np.exp(-(((np.arange(120) - rng.uniform(40, 80)) / 15) ** 2))
    return np.clip(50 + 120 * shaft + 14 * texture / texture.std(), 0, 255).astype(np.uint8)


def write(path: Path, image: np.ndarray, **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path, **options)
    return path


def table_of(rows: list[tuple[Path, int | None, str | None]], groups: dict[str, str] | None = None) -> pd.DataFrame:
    groups = groups or {}
    return make_table(
        {"path": str(path), "label": label, "split": split, "group": groups.get(path.name)}
        for path, label, split in rows
    )


def contents_of(folder: Path) -> dict[str, tuple[str, int]]:
    return {
        str(path): (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def planted(tmp_path_factory) -> tuple[Path, pd.DataFrame]:
    """40 train and 20 test images, with everything planted that the audit counts.

    Test 0 and 1 are byte-identical to train 0 and 1; test 2, 3 and 4 are a mirrored, a turned and a smaller, brighter
    JPEG of train 2, 3 and 4; test 5 is twice in test; train 30 repeats train 31's bytes under the other label; one file
    is cut short, one is text, and one is a truncated file on both sides.
    """
    folder = tmp_path_factory.mktemp("planted")
    rows: list[tuple[Path, int | None, str | None]] = []
    for number in range(40):
        rows.append((write(folder / "train" / f"{number:02d}.png", picture(number)), number % 2, "train"))
    for number in range(20):
        rows.append((write(folder / "test" / f"t{number:02d}.png", picture(100 + number)), number % 2, "test"))
    for number in (0, 1):
        (folder / "test" / f"t{number:02d}.png").write_bytes((folder / "train" / f"{number:02d}.png").read_bytes())
    write(folder / "test" / "t02.png", picture(2)[:, ::-1])
    write(folder / "test" / "t03.png", np.rot90(picture(3)))
    small = Image.fromarray(np.clip(picture(4) * 1.2, 0, 255).astype(np.uint8)).resize((90, 112))
    small.save(folder / "test" / "t04.png", format="JPEG", quality=80)
    (folder / "test" / "t06.png").write_bytes((folder / "test" / "t05.png").read_bytes())
    (folder / "train" / "30.png").write_bytes((folder / "train" / "31.png").read_bytes())
    cut = write(folder / "train" / "cut.jpg", picture(900), quality=90)
    cut.write_bytes(cut.read_bytes()[:2000])
    (folder / "test" / "cut.jpg").write_bytes(cut.read_bytes())
    (folder / "train" / "text.png").write_text("no picture")
    rows += [(cut, 0, "train"), (folder / "test" / "cut.jpg", 1, "test"), (folder / "train" / "text.png", 1, "train")]
    return folder, table_of(rows)


@pytest.fixture(scope="module")
def report(planted):
    return audit_dataset(planted[1], workers=1)


def test_the_counts_are_those_planted(report):
    document = report.to_dict()
    assert list(document) == KEYS
    assert document["images"] == 63
    assert document["exact_duplicates"] == 4  # two in test of train, one in test of test, one in train of train
    assert document["near_duplicate_groups"] == 7
    # Test 5 and 6 have different labels as well as train 30 and 31; the copies of 0 to 4 agree.
    assert document["label_conflicts"] == 2
    assert document["cross_split"] == {
        "train->test": {"of": 40, "identical": 2, "near": 5},
        "test->train": {"of": 20, "identical": 2, "near": 5},
    }
    assert json.loads(json.dumps(document)) == document


def test_unreadable_files_come_with_reasons_and_count_nowhere_else(report, planted):
    listed = {
        Path(entry["path"]).relative_to(planted[0]).as_posix(): entry["reason"]
        for entry in report.to_dict()["unreadable"]
    }
    assert set(listed) == {"train/cut.jpg", "test/cut.jpg", "train/text.png"}
    assert "truncated" in listed["train/cut.jpg"]
    assert "not an image" in listed["train/text.png"]
    assert usable_rows(planted[1])[1].to_dict("records") == report.to_dict()["unreadable"]


def test_pairs_show_what_was_done_and_come_worst_first(report):
    pairs = report.pairs
    crossing = pairs["split_a"] != pairs["split_b"]
    assert crossing.tolist() == [True] * 5 + [False] * 2
    names = {Path(row.path_b if "t0" in row.path_b else row.path_a).name: row for row in pairs[crossing].itertuples()}
    assert names["t02.png"].orientation == "mirrored left-right"
    assert "quarter turn" in names["t03.png"].orientation
    assert names["t04.png"].orientation == "as is"
    assert [names[f"t0{number}.png"].identical for number in range(5)] == [True, True, False, False, False]
    assert (pairs["correlation"] > 0.92).all()


def test_groups_list_every_copy(report):
    sizes = report.groups.groupby("group").size()
    assert sizes.tolist() == [2] * 7
    assert report.groups.groupby("group")["label"].nunique().eq(2).sum() == 2


def test_verdict_and_findings_name_the_leak_first(report):
    assert report.verdict.startswith(
        "A score on test cannot be believed, because 5 of its 20 images have a copy in train (25%"
    )
    assert "2 of them byte-identical" in report.verdict
    assert ". " not in report.verdict  # one sentence
    severities = report.findings["severity"].map({"high": 0, "medium": 1, "low": 2})
    assert severities.is_monotonic_increasing
    assert "copies test->train" in set(report.findings.loc[report.findings["severity"] == "high", "finding"])


def test_audit_only_reads_and_repeats_itself(planted, report):
    before = contents_of(planted[0])
    table = planted[1].copy(deep=True)
    again = audit_dataset(planted[1], workers=1)
    assert again.to_dict() == report.to_dict()
    assert contents_of(planted[0]) == before
    pd.testing.assert_frame_equal(planted[1], table)


def test_several_processes_find_the_same(planted):
    one = read_files(list(planted[1]["path"]), workers=1)
    two = read_files(list(planted[1]["path"]) * 5, workers=2)
    assert two.files["sha256"].tolist() == one.files["sha256"].tolist() * 5
    assert two.files["reason"].tolist() == one.files["reason"].tolist() * 5
    assert np.array_equal(two.thumbnails, np.tile(one.thumbnails, (5, 1, 1)))


def test_readings_know_the_size_the_right_way_up(tmp_path):
    turned = Image.fromarray(picture(0))
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(tmp_path / "turned.jpg", exif=exif)
    readings = read_files(
        [write(tmp_path / "a.png", picture(0)), tmp_path / "turned.jpg", tmp_path / "gone.png"], workers=1
    )
    assert readings.files["width"].tolist() == [120, 150, 0]
    assert readings.files["height"].tolist() == [150, 120, 0]
    assert readings.files["bytes"][0] == (tmp_path / "a.png").stat().st_size
    assert readings.files["sha256"][2] is None
    assert "no such file" in readings.files["reason"][2]


def test_groups_are_filled_by_content_and_published_ones_stay(tmp_path):
    paths = [write(tmp_path / f"{number}.png", picture(number)) for number in range(6)]
    write(tmp_path / "1.png", np.flipud(picture(0)))  # 0 and 1: no group published
    write(tmp_path / "3.png", np.fliplr(picture(2)))  # 2 published, 3 not
    write(tmp_path / "5.png", np.rot90(picture(4)))  # 4 and 5: two patients, one picture
    published = {"2.png": "patient 2", "4.png": "patient 5", "5.png": "patient 4"}
    table = table_of([(path, 0, None) for path in paths], published)
    groups = with_groups(table)["group"].tolist()
    assert groups[0] == groups[1]
    assert groups[0].startswith("image-")
    assert groups[2:] == ["patient 2", "patient 2", "patient 4", "patient 4"]
    assert table["group"].isna().sum() == 3
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    moved = [paths[1].rename(elsewhere / "b.png"), paths[0].rename(elsewhere / "z.png")]
    assert with_groups(table_of([(path, 1, None) for path in moved]))["group"].tolist() == groups[:2]


def test_studies_of_patients_who_become_one_stay_apart(tmp_path):
    rows = [
        {"path": str(write(tmp_path / f"{number}.png", picture(min(number, 2)))), "group": f"p{number}", "study": study}
        for number, study in enumerate(("study1", "study1", "study1", "study1", None))
    ]  # 2, 3 and 4 are one picture
    table = with_groups(make_table(rows))
    assert table["group"].tolist() == ["p0", "p1", "p2", "p2", "p2"]
    assert table["study"].fillna("").tolist() == ["study1", "study1", "study1", "p3/study1", ""]
    pd.testing.assert_frame_equal(with_groups(table), table)


def test_unreadable_files_get_a_group_of_their_own(planted):
    table = with_groups(planted[1])
    assert table["group"].notna().all()
    broken = table[table["path"].str.endswith("text.png")]["group"].item()
    assert (table["group"] == broken).sum() == 1


def test_near_duplicate_groups_takes_files_and_pictures(tmp_path):
    pictures = [picture(0), picture(1), np.fliplr(picture(0))]
    files = [write(tmp_path / f"{number}.png", image) for number, image in enumerate(pictures)]
    assert near_duplicate_groups(np.stack(pictures)[..., np.newaxis]).tolist() == [0, 1, 0]
    assert near_duplicate_groups(files).tolist() == [0, 1, 0]


def test_patients_on_two_sides_are_named(tmp_path):
    paths = [write(tmp_path / f"{number}.png", picture(number)) for number in range(8)]
    sides = ["train"] * 5 + ["test"] * 3
    table = table_of(
        [(path, number % 2, side) for number, (path, side) in enumerate(zip(paths, sides, strict=True))],
        {f"{number}.png": f"patient {number % 5}" for number in range(8)},
    )
    report = audit_dataset(table, workers=1)
    assert "3 patients have images on more than one side" in report.verdict
    assert "cannot be believed" in report.verdict
    finding = report.findings.set_index("finding").loc["groups across splits"]
    assert finding["count"] == 3
    assert "patient 0" in finding["detail"]


def test_files_that_are_no_images_are_listed(tmp_path):
    paths = [write(tmp_path / f"{number}.png", picture(number)) for number in range(4)]
    report = audit_dataset(
        table_of([(path, number % 2, None) for number, path in enumerate(paths)]), others=["notes.txt"], workers=1
    )
    assert report.to_dict()["unreadable"] == []
    assert report.to_dict()["no_images"] == ["notes.txt"]
    assert report.to_dict()["images"] == 4


@pytest.mark.parametrize(
    ("labels", "match"),
    [([None] * 4, "none of the 4 readable images has a label"), ([1] * 4, "all 4 labelled images are fractured")],
)
def test_what_is_undefined_is_none_and_the_verdict_says_so(tmp_path, labels, match):
    paths = [write(tmp_path / f"{number}.png", picture(number)) for number in range(4)]
    report = audit_dataset(
        table_of(list(zip(paths, labels, ["train", "train", "test", "test"], strict=True))), workers=1
    )
    assert match in report.verdict
    assert {entry["auc"] for entry in report.to_dict()["shortcuts"]} == {None}


def test_nothing_readable_and_nothing_at_all(tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    report = audit_dataset(table_of([(tmp_path / "a.png", 0, "train")]), workers=1)
    assert report.verdict == "No score can be computed: none of the 1 files can be read as an image."
    assert report.to_dict()["cross_split"] == {}
    with pytest.raises(FracturelabError, match="at least one image"):
        audit_dataset(table_of([]), workers=1)


def test_a_shortcut_through_the_picture_size_is_seen(tmp_path):
    rows = []
    for number in range(60):
        label = number % 2
        image = Image.fromarray(picture(number)).resize((128, 150) if label else (120, 150))
        rows.append((write(tmp_path / f"{number:02d}.png", np.asarray(image)), label, None))
    scores = {entry["name"]: entry["auc"] for entry in audit_dataset(table_of(rows), workers=1).to_dict()["shortcuts"]}
    assert list(scores) == ["file_size", "image_size", "aspect", "mean_brightness", "border", "corners"]
    assert scores["image_size"] == 1.0
    assert scores["aspect"] == 1.0
    assert scores["mean_brightness"] < 0.75
    assert (
        "image size alone predicts the label with an AUC of 1.00 (and "
        in audit_dataset(table_of(rows), workers=1).verdict
    )


def test_shortcut_scores_are_near_a_half_where_there_is_nothing_and_keep_groups_whole():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 1500)
    noise = rng.standard_normal((1500, 3))
    scores = shortcut_scores({"noise": noise, "constant": noise[:, :1] * 0}, labels, np.arange(1500))
    assert scores["noise"] == pytest.approx(0.5, abs=0.05)
    assert scores["constant"] == 0.5
    # A value that names the group would predict everything if a group stood on both sides of a fold.
    groups = rng.integers(0, 100, 1500)
    by_group = rng.integers(0, 2, 100)[groups]
    code = rng.permutation(100)[groups][:, None].astype(float)
    torn = shortcut_scores({"code": code}, by_group, np.arange(1500))["code"]
    whole = shortcut_scores({"code": code}, by_group, groups)["code"]
    assert torn > 0.85
    assert whole < 0.7


def test_auc_margin_is_that_of_hanley_and_mcneil():
    # Their formula by hand: A = 0.8, 50 and 100 images.
    q1, q2 = 0.8 / 1.2, 2 * 0.64 / 1.8
    variance = (0.16 + 49 * (q1 - 0.64) + 99 * (q2 - 0.64)) / 5000
    assert auc_margin(0.8, 50, 100) == pytest.approx(1.96 * variance**0.5)
    assert auc_margin(0.8, 2, 2) > auc_margin(0.8, 20, 20) > auc_margin(0.8, 200, 200)


def test_cross_split_counts_both_directions_separately():
    split = np.array(["train", "train", "train", "val", "test", "test", ""], object)
    contents = np.array([0, 0, 1, 2, 0, 3, 0])
    groups = np.array([0, 0, 1, 2, 0, 2, 0])
    shared = shared_between_splits(split, np.array([True] * 7), contents, groups)
    assert set(shared) == {f"{a}->{b}" for a in ("train", "val", "test") for b in ("train", "val", "test") if a != b}
    assert shared["train->test"] == {"of": 3, "identical": 2, "near": 2}
    assert shared["test->train"] == {"of": 2, "identical": 1, "near": 1}
    assert shared["test->val"] == {"of": 2, "identical": 0, "near": 1}
    assert shared["train->val"] == {"of": 3, "identical": 0, "near": 0}
    unread = shared_between_splits(split, np.array([True, True, True, True, False, True, True]), contents, groups)
    assert unread["train->test"] == {"of": 3, "identical": 0, "near": 0}
    names = np.array(["a", "", "b", "a", "b", "b", "b"], object)
    assert groups_across_splits(names, split, np.array([True] * 7)) == ["a", "b"]


def facts(**changes) -> Facts:
    clean = {
        "images": 1000,
        "readable": 1000,
        "normal": 500,
        "fractured": 500,
        "exact_duplicates": 0,
        "near_groups": 0,
        "near_images": 0,
        "label_conflicts": 0,
        "cross_split": {
            "train->test": {"of": 700, "identical": 0, "near": 0},
            "test->train": {"of": 300, "identical": 0, "near": 0},
        },
        "judged": "test",
        "judged_normal": 150,
        "judged_fractured": 150,
        "leaked": 0,
        "leaked_identical": 0,
        "torn_groups": (),
        "has_patients": True,
        "turned": True,
        "blank": 0,
        "several": 0,
        "others": 0,
        "shortcuts": {"aspect": 0.55, "file_size": None},
    }
    return Facts(**{**clean, **changes})


@pytest.mark.parametrize(
    ("changes", "start", "parts"),
    [
        ({}, "A score on test can be believed:", ["no copy of its 300 images was found", "looked for: "]),
        ({"has_patients": False}, "A score on test can be believed:", ["without patient ids"]),
        (
            {
                "leaked": 60,
                "leaked_identical": 10,
                "cross_split": {"test->train": {"of": 300, "identical": 10, "near": 60}},
            },
            "A score on test cannot be believed, because 60 of its 300 images have a copy in train (20%, 10 of them",
            [],
        ),
        (
            {"leaked": 1, "cross_split": {"test->train": {"of": 300, "identical": 0, "near": 1}}},
            "A score on test can be believed only without these images: 1 of its 300 image",
            ["(less than 1%)"],
        ),
        ({"torn_groups": ("p1",)}, "A score on test cannot be believed, because 1 patient has images", []),
        (
            {"judged": "", "near_groups": 5, "near_images": 11, "cross_split": {}},
            "No split was published, so there is no score to judge. Split by group",
            ["11 images are copies in 5 groups"],
        ),
        (
            {"judged": "", "cross_split": {}},
            "No split was published, so there is no score to judge. No copies were found (looked for: ",
            ["by patient"],
        ),
        (
            {"shortcuts": {"aspect": 0.93, "corners": 0.75}},
            "A score on test needs caution: aspect alone predicts the label with an AUC of 0.93",
            ["(and 1 more shortcut works)"],
        ),
        (
            {"judged_normal": 12, "judged_fractured": 8},
            "A score on test needs caution: with 8 fractured and 12 normal images",
            ["uncertain by 0.2"],
        ),
        ({"judged_normal": 0}, "No AUC on test can be computed: none of its 150 labelled images is normal", []),
        ({"judged_normal": 0, "judged_fractured": 0}, "No score on test can be computed:", []),
        ({"label_conflicts": 2, "near_groups": 2}, "A score on test needs caution: 2 groups", []),
        ({"readable": 0}, "No score can be computed: none of the 1000 files", []),
    ],
)
def test_the_verdict_is_one_sentence_and_names_the_worst_first(changes, start, parts):
    verdict = give_verdict(facts(**changes))
    assert verdict.startswith(start)
    assert verdict.endswith(".")
    for part in parts:
        assert part in verdict


def test_a_high_score_from_few_images_is_no_strong_shortcut():
    few = facts(normal=8, fractured=8, judged_normal=150, shortcuts={"aspect": 0.75})
    assert "aspect" not in give_verdict(few)
    assert "shortcut aspect" not in [row[1] for row in list_findings(few)]
    assert "shortcut aspect" in [row[1] for row in list_findings(facts(shortcuts={"aspect": 0.75}))]


def test_versions_by_name_are_one_group_and_cross_the_split(tmp_path):
    names = ["train/a_png.rf.0f3a.jpg", "test/a_png.rf.77b1.jpg", "train/b_aug_1.png", "test/b.png"]
    names += ["train/c (1).png", "train/c (2).png", "test/d (1).png", "train/d.png"]
    files = [write(tmp_path / name, picture(number)) for number, name in enumerate(names)]
    table = table_of([(path, 0, path.parent.name) for path in files])
    report = audit_dataset(table, workers=1)
    assert report.facts.cross_split["test->train"] == {"of": 3, "identical": 0, "near": 3}
    assert report.facts.near_groups == 3
    assert set(report.pairs["orientation"]) == {"by file name"}
    groups = with_groups(table).set_index("path")["group"]
    first, second = (groups[[str(files[row]) for row in rows]].tolist() for rows in ((0, 2, 7), (1, 3, 6)))
    assert first == second
    assert groups.nunique() == 5


@pytest.mark.parametrize(
    ("names", "labels", "pairs"),
    [
        (["x.png", "x-rotated1.png", "x-rotated1-rotated2.png"], [1, 1, 1], [(0, 1), (0, 2)]),
        (["1.png", "1-rotated1.png"], [0, 1], []),  # every class is numbered from 1
        (["Original/7.png", "Augmented/7.png"], [0, 0], [(0, 1)]),
        (["one/7.png", "two/7.png"], [0, 0], []),
        (["hand (1).png", "hand (2).png"], [0, 0], []),
        (["hand.png", "hand - Copy (2).png"], [0, 0], [(0, 1)]),
        ([f"image_aug_{number}.png" for number in range(60)], [0] * 60, []),
    ],
)
def test_names_of_versions(names, labels, pairs):
    found = pairs_by_name([f"/augmented/set/{name}" for name in names], np.array(labels))
    assert list(found.itertuples(index=False, name=None)) == pairs
