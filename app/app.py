"""The page: upload X-rays, get P(fractured), what it means, and where it comes from. Start it with `make app`.

Uploads are held in this process's memory while the page is open, and nowhere else.
"""

from __future__ import annotations

import html
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import streamlit as st

from fracturelab.errors import FracturelabError
from fracturelab.prediction import Predictor, load_predictor
from fracturelab.prediction.answers import Answer, answer_uploads, available_models
from fracturelab.prediction.uploads import LIMITS, Upload, read_upload, too_many
from fracturelab.prediction.words import NOT_CLINICAL, in_words, model_facts, threshold_sentence
from fracturelab.system import folders
from page.downloads import answers_csv, answers_html, data_url, overlay, png, remark
from page.examples import Example, on_fracture, synthetic, worth_showing

STYLE = """
<style>
  .notice { position: fixed; top: 0; left: 0; right: 0; z-index: 1000000; background: #9b1c1c; color: white;
            text-align: center; font-weight: 600; padding: 0.35rem 1rem; font-size: 0.95rem; }
  [data-testid="stHeader"] { top: 2.1rem; background: transparent; }
  .block-container { padding-top: 3.6rem; max-width: 1200px; }
  .answer { font-size: 1.6rem; font-weight: 650; margin: 0; line-height: 1.3; }
  .fractured { color: #a33e00; } .normal { color: #00517f; }
  .bar { position: relative; height: 1.1rem; background: #d9dee3; border-radius: 3px; margin: 0.5rem 0 1.6rem 0; }
  .fill { position: absolute; inset: 0 auto 0 0; border-radius: 3px; background: currentColor; }
  .tick { position: absolute; top: -0.25rem; bottom: -0.25rem; width: 3px; margin-left: -1px; background: #111; }
  .mark { position: absolute; top: 1.35rem; font-size: 0.8rem; white-space: nowrap; color: #333; }
  table.all { border-collapse: collapse; width: 100%; } table.all img { height: 56px; }
  table.all td, table.all th { border-bottom: 1px solid #ccc; padding: 0.3rem 0.6rem; text-align: left; }
  .scroll { overflow-x: auto; }
</style>
"""
MOST_KEPT = 4 * LIMITS.files
Answered = tuple[list[Upload], list[Answer | None]]


@st.cache_resource(show_spinner="Opening the model…", max_entries=4)
def predictor_of(path: str, modified: float) -> Predictor:
    """A model, opened once for all visitors; a file that has changed is opened anew."""
    predictor = load_predictor(path, runtime="keras")
    _ = predictor.explainer  # prepared now, not while somebody waits
    return predictor


@st.cache_data(show_spinner="Drawing the examples…")
def synthetic_examples() -> list[Example]:
    """The synthetic examples, drawn once."""
    return synthetic()


def read_all(given: Sequence[tuple[str, bytes]], predictor: Predictor) -> Answered:
    """Read and answer what has not been answered yet; the slider must not make the model run again."""
    kept = st.session_state.setdefault("answers", {})
    marks = [(str(predictor.path), predictor.card["sha256"], name, hash(data)) for name, data in given]
    new = {
        mark: read_upload(name, data, size=predictor.input_size)
        for mark, (name, data) in zip(marks, given, strict=True)
        if mark not in kept
    }
    kept |= zip(new, zip(new.values(), answer_uploads(predictor, list(new.values())), strict=True), strict=True)
    for mark in [mark for mark in kept if mark not in marks][: max(0, len(kept) - MOST_KEPT)]:
        del kept[mark]
    return [kept[mark][0] for mark in marks], [kept[mark][1] for mark in marks]


def verdict(answer: Answer, predictor: Predictor) -> None:
    """The answer in a word, on a bar with a tick at the threshold, and in a sentence."""
    share, line = answer.probability, predictor.threshold
    label = f"P(fractured) {share:.2f}, threshold {line:.2f}: {answer.label}"
    side = f"right: {1 - line:.1%}" if line > 0.5 else f"left: {line:.1%}"
    st.html(
        f'<div class="{answer.label}"><p class="answer">P(fractured) {share:.2f}: {answer.label}</p>'
        f'<div class="bar" role="img" aria-label="{label}"><div class="fill" style="width: {share:.1%}"></div>'
        f'<div class="tick" style="left: {line:.1%}"></div>'
        f'<span class="mark" style="{side}">threshold {line:.2f}</span></div></div>'
    )
    st.write(f"{in_words(share, line)} {threshold_sentence(predictor.card, line)}")


def show_one(
    example: Example, answered: Sequence[tuple[Upload, Answer | None, Predictor]], opacity: float, place: int
) -> None:
    """One file: the verdict of each model first, then its map and the X-ray; or why the file cannot be read."""
    upload = answered[0][0]
    with st.container(border=True):
        if upload.shown is None:
            st.error(upload.problem or f"{upload.name} cannot be read.", icon=":material/broken_image:")
            return
        st.markdown(f"**{html.escape(upload.name)}**")
        columns = st.columns([4] * len(answered) + [3] * (3 - len(answered)))
        for number, (read, answer, predictor) in enumerate(answered):
            if answer is None:
                continue
            with columns[number]:
                if len(answered) > 1:
                    st.caption(f"Model: {predictor.name}")
                verdict(answer, predictor)
                if example.truth:
                    points = " Its map points at the fracture." if on_fracture(example, read, answer) else ""
                    right = "right" if example.truth == answer.label else "wrong"
                    st.write(f"Truth: {example.truth}. The answer is {right}.{points}")
                for sentence in filter(None, [remark(read, answer)]):
                    st.warning(sentence)
                if answer.heat is None:
                    st.write("This model has no feature maps, so there is no heat map.")
                elif not answer.heat.any():
                    st.write("Nothing in this picture speaks for a fracture to this model, so there is no heat.")
            with columns[number if len(answered) > 1 else 1]:
                mixed = overlay(read, answer.heat, opacity=opacity, box=example.box)
                frame = " The frame is the true place of the fracture." if example.box else ""
                st.image(mixed, caption=f"Warm: what raises P(fractured).{frame}", width="stretch")
                st.download_button(
                    "This heat map (PNG)",
                    partial(png, mixed),
                    f"{Path(upload.name).stem}-heat-{predictor.name}.png",
                    "image/png",
                    key=f"png-{place}-{number}",
                    on_click="ignore",
                )
        columns[2].image(upload.shown, caption="The X-ray", width="stretch")


def show_table(uploads: Sequence[Upload], models: Sequence[tuple[list[Answer | None], Predictor]]) -> None:
    """All files at a glance, with thumbnails."""
    heads = "".join(f"<th>{html.escape(predictor.name)}</th>" for _, predictor in models)
    rows = []
    for number, upload in enumerate(uploads):
        picture = "" if upload.shown is None else f'<img src="{data_url(upload.shown, side=112)}" alt="">'
        cells = ""
        for answers, _ in models:
            answer = answers[number]
            cell = "cannot be read" if answer is None else f"{answer.probability:.2f} {answer.label}"
            cells += f'<td class="{answer.label if answer else ""}">{cell}</td>'
        rows.append(f"<tr><td>{picture}</td><td>{html.escape(upload.name)}</td>{cells}</tr>")
    head = f"<tr><th>X-ray</th><th>File</th>{heads}</tr>"
    st.html(f'<div class="scroll"><table class="all">{head}{"".join(rows)}</table></div>')


def downloads(
    uploads: Sequence[Upload], answers: Sequence[Answer | None], predictor: Predictor, opacity: float
) -> None:
    """A table and a report to take home."""
    row = st.container(horizontal=True)
    table = partial(answers_csv, uploads, answers, predictor)
    report = partial(answers_html, uploads, answers, predictor, opacity=opacity)
    of, stem = f" of {predictor.name}", f"fracturelab-{predictor.name}"
    row.download_button(f"Report{of} (HTML)", report, f"{stem}.html", "text/html", on_click="ignore", key=f"r-{stem}")
    row.download_button(f"Table{of} (CSV)", table, f"{stem}.csv", "text/csv", on_click="ignore", key=f"t-{stem}")


def show_results(given: Sequence[Example], predictors: Sequence[Predictor], opacity: float) -> None:
    """All files, a sentence over all, and the downloads."""
    with st.spinner("Reading…"):
        answered = [
            read_all([(example.name, example.data) for example in given], predictor) for predictor in predictors
        ]
    uploads = answered[0][0]
    if len(given) > 1:
        read = sum(upload.shown is not None for upload in uploads)
        called = [sum(a is not None and a.label == "fractured" for a in answers) for _, answers in answered]
        st.subheader(f"{read} of {len(given)} read, {' and '.join(map(str, called))} called fractured")
        show_table(uploads, [(pair[1], predictor) for pair, predictor in zip(answered, predictors, strict=True)])
    for place, example in enumerate(given):
        rows = [
            (pair[0][place], pair[1][place], predictor) for pair, predictor in zip(answered, predictors, strict=True)
        ]
        show_one(example, rows, opacity, place)
    for (own, answers), predictor in zip(answered, predictors, strict=True):
        if any(answers):
            downloads(own, answers, predictor, opacity)


def show_examples(predictors: Sequence[Predictor], opacity: float) -> None:
    """The example that the model does best on; more of them, a wrong answer included, at the press of a button."""
    given = synthetic_examples()
    with st.spinner("Reading the examples…"):
        uploads, answers = read_all([(example.name, example.data) for example in given], predictors[0])
    chosen = worth_showing(given, uploads, answers)
    st.subheader("An example")
    st.write(
        f"A synthetic radiograph of no patient: of {len(given)}, the fracture on which this model does best. A model "
        "trained on real X-rays is often wrong on synthetic ones; its test results are further down."
    )
    more = st.session_state.get("more", False)
    show_results([given[number] for number in (chosen if more else chosen[:1])], predictors, opacity)
    if st.button("Show only this one" if more else "More examples, a wrong answer among them"):
        st.session_state.more = not more
        st.rerun()


def settings() -> tuple[list[Predictor], float]:
    """The models and the opacity that the visitor chose; no model where there is none."""
    paths = available_models(folders.models_folder())
    if not paths:
        st.warning("There is no model in `models/` yet. `make notebooks` makes two, `fracturelab train` one of yours.")
        return [], 0.0
    with st.expander("Settings: model, comparison, heat map"):
        first = st.selectbox("Model", paths, format_func=lambda path: path.stem)
        others: list[Path | None] = [None, *(path for path in paths if path != first)]
        second = st.selectbox(
            "Compare with", others, format_func=lambda path: "no other model" if path is None else path.stem
        )
        opacity = st.slider("Opacity of the heat map", 0, 100, 55, 5, format="%d%%") / 100
    return [predictor_of(str(path), path.stat().st_mtime) for path in (first, second) if path is not None], opacity


def page() -> None:
    """Everything on the page."""
    st.title("fracturelab")
    st.write("P(fractured) of a bone X-ray by a small research model, what the number means, and where it comes from.")
    given = st.file_uploader(
        f"Your X-rays: PNG, JPEG or DICOM, up to {LIMITS.files} files of {LIMITS.file_bytes // 1_000_000} MB each; "
        "they stay in this program's memory while the page is open",
        accept_multiple_files=True,
    )
    results = st.container()
    predictors, opacity = settings()
    if not predictors:
        return
    for predictor in predictors:
        st.subheader(f"How {predictor.name} does")
        for fact in (*model_facts(predictor.card), *predictor.notes):
            st.write(fact)
    with results:
        if given:
            if sentence := too_many(len(given)):
                st.warning(sentence)
            uploaded = [Example(file.name, file.getvalue()) for file in given[: LIMITS.files]]
            show_results(uploaded, predictors, opacity)
        else:
            show_examples(predictors, opacity)


def main() -> None:
    """The page, with a sentence where something goes wrong."""
    st.set_page_config(page_title="fracturelab", page_icon=":material/orthopedics:", layout="wide")
    st.html(STYLE)
    st.markdown(f'<div class="notice" role="note">{NOT_CLINICAL}</div>', unsafe_allow_html=True)
    try:
        page()
    except FracturelabError as error:
        st.error(str(error))
    except MemoryError:
        st.error("There is not enough memory for this. Try fewer or smaller pictures.")
    except Exception as error:
        print(f"fracturelab app: {type(error).__name__}: {error}", file=sys.stderr)
        st.error("Something went wrong on our side. Your file is not stored. Reload the page and try again.")


main()
