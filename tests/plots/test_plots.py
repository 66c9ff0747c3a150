import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from benchmarks.figure import ratios
from fracturelab import evaluation, plots
from fracturelab.errors import FracturelabError
from fracturelab.plots.style import RIGHT, WRONG, shortened


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


def _images(n=3):
    return [np.full((40 + 5 * i, 50, 1), 20 * i, np.uint8) for i in range(n)]


def _words(ax):
    return [text.get_text() for text in ax.texts]


def _overhang(figure):
    """How many inches anything drawn reaches beyond the figure."""
    figure.canvas.draw()
    box, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    return max(-box.x0, -box.y0, box.x1 - width, box.y1 - height)


@pytest.fixture(scope="module")
def scored():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 60)
    return labels, 1 / (1 + np.exp(-(rng.normal(size=60) + labels - 0.5)))


def test_montage_shows_every_image_as_it_is():
    figure = plots.montage(_images(7), [f"a{i}" for i in range(7)], columns=3, title="Seven")
    assert isinstance(figure, Figure)
    assert len(figure.axes) == 7
    shown = figure.axes[4].images[0]
    assert shown.get_array().shape == (60, 50)
    assert (shown.get_array() == 80).all()
    assert shown.get_clim() == (0, 255)
    assert figure.axes[4].get_title() == "a4"
    assert figure.get_suptitle() == "Seven"
    assert _overhang(figure) < 0.02


@pytest.mark.parametrize(
    ("images", "titles", "message"),
    [
        ([], None, "at least one image"),
        (_images(2), ["a"], "title for each of 2"),
        ([np.zeros((4, 4, 3))], None, "width, 1"),
    ],
)
def test_montage_refuses_what_it_cannot_show(images, titles, message):
    with pytest.raises(ValueError, match=message):
        plots.montage(images, titles)


def test_long_names_are_cut_in_the_middle_and_dollars_are_no_formula():
    assert shortened("a_very_long_file_name_0001.png", width=15) == "a_very_…001.png"
    assert shortened("cost$5$") == r"cost\$5\$"
    figure = plots.montage(_images(1), ["$x_{$"])
    figure.canvas.draw()


def test_duplicate_pairs_stand_beside_each_other():
    images = _images(4)
    figure = plots.duplicate_pairs([(images[0], images[1]), (images[2], images[3])], [("a", "b"), ("c", "d")])
    assert [ax.get_title(loc="center") for ax in figure.axes] == ["a", "b", "c", "d"]
    assert [_words(ax) for ax in figure.axes] == [[], ["="], [], ["="]]


def test_predictions_are_framed_by_right_and_wrong():
    figure = plots.prediction_montage(_images(4), [0.9, 0.4, 0.4, 0.7], threshold=0.5, labels=[1, 1, 0, None])
    frames = [to_hex(ax.spines["left"].get_edgecolor()).lower() for ax in figure.axes]
    assert frames == [RIGHT.lower(), WRONG.lower(), RIGHT.lower(), "#666666"]
    titles = [ax.get_title(loc="center") for ax in figure.axes]
    assert titles[0] == "p = 0.90: fractured\n✓ is fractured"
    assert titles[1] == "p = 0.40: normal\n✗ is fractured"
    assert titles[3] == "p = 0.70: fractured\nlabel unknown"
    assert _overhang(figure) < 0.02


def test_heat_lies_over_the_whole_image_and_is_clear_where_cold():
    heat = np.zeros((4, 5))
    heat[1, 2] = 1
    ax = plots.heat_overlay(_images(1)[0], heat, alpha=0.6, box=(5, 6, 25, 16), title="Grad-CAM")
    base, over = ax.images
    assert over.get_extent() == base.get_extent()
    opacity = over.get_array()[..., 3]
    assert opacity[1, 2] == pytest.approx(0.6)
    assert np.delete(opacity.ravel(), 7).max() == 0
    assert ax.patches[0].get_bbox().bounds == (4.5, 5.5, 20, 10)


@pytest.mark.parametrize(
    ("heat", "alpha"), [(np.full((3, 3), 2.0), 0.5), (np.full((3, 3), np.nan), 0.5), (np.zeros(3), 0.5), (np.eye(3), 2)]
)
def test_heat_outside_its_range_is_refused(heat, alpha):
    with pytest.raises(ValueError, match="Received"):
        plots.heat_overlay(_images(1)[0], heat, alpha=alpha)


def test_heat_page_has_a_row_an_image_and_a_column_a_method():
    heat = np.eye(4)
    figure = plots.heat_page(_images(2), {"Grad-CAM": [heat] * 2, "LIME": [heat] * 2}, titles=["one", "two"])
    assert [ax.get_title(loc="center") for ax in figure.axes] == ["one", "Grad-CAM", "LIME", "two", "", ""]
    assert [len(ax.images) for ax in figure.axes] == [1, 2, 2, 1, 2, 2]


def test_overlay_page_lays_each_map_over_its_image():
    heats = [np.eye(3), np.zeros((3, 3))]
    figure = plots.overlay_page(_images(2), heats, titles=["one", "two"], boxes=[(1, 2, 5, 6), None], title="Page")
    assert [ax.get_title(loc="center") for ax in figure.axes] == ["one", "two"]
    assert [len(ax.patches) for ax in figure.axes] == [2, 0]
    assert figure.axes[1].images[1].get_array()[..., 3].max() == 0
    with pytest.raises(ValueError, match="title for each"):
        plots.overlay_page(_images(2), heats, titles=["one"])


def test_training_curves_part_loss_from_scores():
    history = {
        "epoch": [1, 2, 3],
        "stage": ["head", "head", "top"],
        "loss": [3, 2, 1],
        "val_loss": [3, 2, 2],
        "val_auc": [0.5, 0.6, 0.7],
    }
    figure = plots.training_curves(history, stages=history["stage"], best=2)
    loss, score = figure.axes
    assert [t.get_text() for t in loss.get_legend().get_texts()] == [
        "training loss",
        "validation loss",
        "kept: epoch 3",
    ]
    assert [t.get_text() for t in score.get_legend().get_texts()] == ["validation AUC", "kept: epoch 3"]
    assert _words(loss) == ["head", "top"]
    assert list(score.lines[0].get_xdata()) == [1, 2, 3]
    assert _overhang(figure) < 0.02
    with pytest.raises(ValueError, match="at least one measure"):
        plots.training_curves({"epoch": [1]})


def test_training_curves_do_not_blow_up_a_thousandth():
    loss, score = plots.training_curves({"val_loss": [0.601, 0.602], "val_auc": [0.701, 0.702]}).axes
    assert np.ptp(score.get_ylim()) == pytest.approx(0.05)
    assert np.mean(score.get_ylim()) == pytest.approx(0.7015)
    assert np.ptp(loss.get_ylim()) < 0.01  # a loss has no scale of its own


def test_training_curves_of_two_models_have_the_same_axes():
    history = {"loss": [0.7, 0.6], "val_loss": [0.68, 0.65], "auc": [0.5, 0.7], "val_auc": [0.5, 0.6]}
    loss, score = plots.training_curves(history, colour=plots.V1).axes
    other_loss, other_score = plots.training_curves({"val_loss": [0.3], "val_auc": [0.9]}, colour=plots.V2).axes
    assert loss.get_ylim() == other_loss.get_ylim()
    assert score.get_ylim() == other_score.get_ylim()
    assert [line.get_ydata()[0] for line in loss.lines[-1:] + score.lines[-1:]] == [np.log(2), 0.5]


def test_a_montage_marks_fractures_where_they_are_known():
    figure = plots.montage([np.full((20, 20), 90, np.uint8)] * 2, boxes=[(2, 3, 8, 9), None])
    marked, plain = figure.axes
    assert {patch.get_bbox().bounds for patch in marked.patches} == {(1.5, 2.5, 6.0, 6.0)}
    assert not plain.patches


def test_heat_stays_off_the_padding():
    image = np.zeros((20, 20), np.uint8)
    image[:, 5:15] = 90
    ax = plots.heat_overlay(image, np.ones((4, 4)))
    figure = ax.get_figure()
    figure.canvas.draw()
    pixels = np.asarray(figure.canvas.buffer_rgba())[..., :3].astype(int)
    x, y = ax.transData.transform((2, 10)).astype(int)
    inside, _ = ax.transData.transform((10, 10)).astype(int)
    height = pixels.shape[0]
    assert np.ptp(pixels[height - y, x]) < 3
    assert np.ptp(pixels[height - y, inside]) > 50


def test_learning_curve_has_a_band_where_it_is_known():
    ax = plots.learning_curve(
        [50, 100], {"a": {"value": [0.6, 0.7], "low": [0.5, 0.6], "high": [0.7, 0.8]}, "b": {"value": [0.7, 0.8]}}
    )
    assert len(ax.collections) == 1
    assert [t.get_text() for t in ax.get_xticklabels()] == ["50", "100"]


def test_confusion_matrix_writes_counts_and_row_percentages():
    ax = plots.confusion_matrix([[30, 10], [0, 0]], title="v1")
    assert _words(ax) == ["30\n75%", "10\n25%", "0", "0"]
    assert (ax.get_xlabel(), ax.get_ylabel(), ax.get_title(loc="left")) == ("predicted label", "true label", "v1")
    assert _overhang(ax.figure) < 0.02
    with pytest.raises(ValueError, match=r"shape \(2, 2\)"):
        plots.confusion_matrix(np.eye(3))


def test_ten_classes_are_not_clipped():
    names = [f"long class name {i}" for i in range(10)]
    figure = plots.confusion_matrices({"a": np.eye(10, dtype=int), "b": np.eye(10, dtype=int)}, names)
    assert len(figure.axes) == 2
    assert _words(figure.axes[0]) == ["1\n100%"] * 10
    assert _overhang(figure) < 0.02


def test_curves_carry_their_areas_and_bands(scored):
    labels, p = scored
    roc = evaluation.roc_curve(labels, p)
    ax = plots.roc({"v1": roc})
    value, low, high = roc.area
    assert ax.get_legend().get_texts()[0].get_text() == f"v1: AUC {value:.3f} ({low:.2f}–{high:.2f})"
    assert np.array_equal(ax.lines[0].get_xdata(), roc.x)
    assert len(ax.collections) == 1
    pr = evaluation.precision_recall_curve(labels, p)
    ax = plots.precision_recall({"v1": pr, "v2": pr})
    assert [t.get_text() for t in ax.get_legend().get_texts()][-1] == f"guessing: {labels.mean():.2f}"
    ax = plots.calibration({"v1": evaluation.calibration_curve(labels, p)})
    assert "calibration error" in ax.get_legend().get_texts()[1].get_text()
    assert _overhang(ax.figure) < 0.02


def test_intervals_write_values_and_name_what_is_undefined():
    ax = plots.intervals({"v1": {"roc_auc": (0.8, 0.7, 0.9), "f1": (None, None, None)}}, reference=0.5)
    assert _words(ax) == ["0.80", "undefined"]
    assert [t.get_text() for t in ax.get_yticklabels()] == ["ROC AUC", "F1"]
    whiskers = ax.collections[0].get_segments()[0]
    assert whiskers[:, 0].tolist() == pytest.approx([0.7, 0.9])
    assert _overhang(ax.figure) < 0.02


def test_costs():
    ax = plots.score_against_cost(["a", "b"], [2, 20], [(0.8, 0.7, 0.9), (None, None, None)])
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["a: 0.80"]
    assert ax.get_xscale() == "log"


def test_ratios_start_at_one():
    ax = ratios(["v2_head", "audit"], [9.2, 0.5])
    assert _words(ax) == ["9.2×", "0.50×"]
    assert [patch.get_x() + patch.get_width() for patch in ax.patches] == pytest.approx([9.2, 0.5])
    assert [t.get_text() for t in ax.get_yticklabels()] == ["v2 head", "audit"]
    with pytest.raises(ValueError, match="positive ratios"):
        ratios(["a"], [0])


@pytest.mark.parametrize(
    "draw",
    [
        lambda ax: plots.heat_overlay(_images(1)[0], np.eye(3), ax=ax),
        lambda ax: plots.confusion_matrix(np.eye(2, dtype=int), ax=ax),
        lambda ax: plots.intervals({"a": {"f1": (0.5, 0.4, 0.6)}}, ax=ax),
        lambda ax: ratios(["a"], [2], ax=ax),
        lambda ax: plots.learning_curve([1, 2], {"a": {"value": [0.5, 0.6]}}, ax=ax),
        lambda ax: plots.score_against_cost(["a"], [1], [(0.5, 0.4, 0.6)], ax=ax),
    ],
)
def test_plots_draw_into_the_axes_they_are_given(draw):
    before = dict(mpl.rcParams)
    figure, ax = plt.subplots()
    assert draw(ax) is ax
    assert plt.get_fignums() == [figure.number]
    assert dict(mpl.rcParams) == before
    assert isinstance(draw(None), Axes)
    assert len(plt.get_fignums()) == 2


def test_saved_twice_the_bytes_are_the_same(tmp_path):
    paths = [plots.save_figure(ratios(["size"], [2]), tmp_path / "figures" / f"{i}.png") for i in range(2)]
    first, second = (path.read_bytes() for path in paths)
    assert first == second
    assert first.startswith(b"\x89PNG")
    assert b"Software" not in first
    assert sorted(p.name for p in (tmp_path / "figures").iterdir()) == ["0.png", "1.png"]


def test_a_figure_that_cannot_be_saved_is_one_clear_line(tmp_path):
    figure = plots.montage(_images(1))
    (tmp_path / "file").write_text("mine")
    with pytest.raises(FracturelabError, match=r"cannot write .*a\.png"):
        plots.save_figure(figure, tmp_path / "file" / "a.png")
    with pytest.raises(FracturelabError, match=r"ending in \.png"):
        plots.save_figure(figure, tmp_path / "a.pdf")


def test_the_style_puts_its_own_settings_back_and_no_others():
    size, was_interactive = mpl.rcParams["font.size"], mpl.is_interactive()
    try:
        with mpl.rc_context():
            mpl.rcParams["font.size"] = 17.0
            with plots.style():
                assert mpl.rcParams["font.size"] != 17.0
                mpl.interactive(not was_interactive)  # as a notebook's backend does with its first figure
            assert mpl.rcParams["font.size"] == 17.0
            assert mpl.is_interactive() is not was_interactive
    finally:
        mpl.interactive(was_interactive)
    assert mpl.rcParams["font.size"] == size
