"""The page: upload X-rays, see P(fractured), how sure that is, and where the model looks. Start it with `make app`.

Uploads are held in this process's memory while the page is open, and nowhere else.
"""

from __future__ import annotations

import sys
from functools import partial

import streamlit as st

from fracturelab.errors import FracturelabError
from fracturelab.prediction.answers import Answer, Reader, available_models, open_reader
from fracturelab.prediction.downloads import answers_csv, answers_sheet, overlay, png
from fracturelab.prediction.uploads import LIMITS, Upload, examples, read_upload, too_many
from fracturelab.prediction.words import NOT_CLINICAL, in_words, model_facts
from fracturelab.system import folders
from fracturelab.system.quiet import load_tensorflow

STYLE = """
<style>
  .notice { position: fixed; top: 0; left: 0; right: 0; z-index: 1000000; background: #9b1c1c; color: white;
            text-align: center; font-weight: 600; padding: 0.35rem 1rem; font-size: 0.95rem; }
  [data-testid="stHeader"] { top: 2.1rem; background: transparent; }
  [data-testid="stSidebar"] { top: 2.1rem; height: calc(100vh - 2.1rem); }
  .block-container { padding-top: 3.6rem; max-width: 1200px; }
  .answer { font-size: 1.35rem; font-weight: 650; margin: 0.2rem 0 0.1rem 0; }
  .fractured { color: #b34700; } .normal { color: #005b8f; }
</style>
"""
MOST_KEPT = 2 * LIMITS.files


@st.cache_resource(show_spinner="Opening the model…", max_entries=3)
def reader_of(path: str, modified: float) -> Reader:
    """A model, opened once for all visitors; a file that has changed is opened anew."""
    load_tensorflow()
    return open_reader(path)


def chosen_reader() -> Reader | None:
    """The model picked in the sidebar; None, with a sentence, where there is none."""
    paths = available_models(folders.models_folder())
    if not paths:
        st.warning("There is no model in `models/` yet. `make notebooks` makes two, `fracturelab train` one of yours.")
        return None
    path = st.sidebar.selectbox("Model", paths, format_func=lambda p: p.stem)
    return reader_of(str(path), path.stat().st_mtime)


def read_all(files: list[tuple[str, bytes]], reader: Reader) -> tuple[list[Upload], list[Answer | None]]:
    """Read and answer what has not been answered yet; the slider must not make the model run again."""
    kept = st.session_state.setdefault("answers", {})
    new: list[tuple[tuple[str, ...], Upload]] = []
    uploads = []
    for name, data in files:
        mark = reader.mark(name, data)
        upload = kept[mark][0] if mark in kept else read_upload(name, data, size=reader.size)
        uploads.append((mark, upload))
        if mark not in kept:
            new.append((mark, upload))
    for (mark, upload), answer in zip(new, reader.answer([upload for _, upload in new]), strict=True):
        kept[mark] = (upload, answer)
    current = {mark for mark, _ in uploads}
    for mark in [m for m in kept if m not in current][: max(0, len(kept) - MOST_KEPT)]:
        del kept[mark]
    return [upload for _, upload in uploads], [kept[mark][1] for mark, _ in uploads]


def show_one(upload: Upload, answer: Answer | None, reader: Reader, opacity: float, place: int) -> None:
    """One file: picture, heat map, answer in words; or why it cannot be read."""
    with st.container(border=True):
        if answer is None or upload.shown is None:
            st.error(upload.problem or f"{upload.name} cannot be read.", icon=":material/broken_image:")
            return
        left, middle, right = st.columns([3, 3, 4])
        left.image(upload.shown, caption="The X-ray", width="stretch")
        mixed = overlay(upload, answer, opacity=opacity)
        middle.image(mixed, caption="Warm: what speaks for a fracture, to this model", width="stretch")
        with right:
            st.text(upload.name)
            st.markdown(
                f'<p class="answer {answer.label}">P(fractured) {answer.probability:.2f}: {answer.label}</p>',
                unsafe_allow_html=True,
            )
            st.progress(answer.probability)
            st.write(in_words(answer.probability, reader.threshold))
            if not answer.heat.any():
                st.write("Nothing in this picture speaks for a fracture to this model, so there is no heat.")
            if answer.remark:
                st.warning(answer.remark)
            if upload.remark:
                st.info(upload.remark)
            st.download_button(
                "This heat map (PNG)",
                partial(png, mixed),
                f"heat-{place + 1}.png",
                "image/png",
                key=f"png-{place}",
                on_click="ignore",
            )


def show_results(files: list[tuple[str, bytes]], reader: Reader, opacity: float) -> None:
    """All files, a sentence over all, and the downloads."""
    with st.spinner("Reading…"):
        uploads, answers = read_all(files, reader)
    read = [answer for answer in answers if answer is not None]
    called = sum(answer.label == "fractured" for answer in read)
    st.subheader(f"{len(read)} of {len(files)} read, {called} called fractured" if len(files) > 1 else "Result")
    if read:
        row = st.container(horizontal=True)
        row.download_button(
            "Table (CSV)", answers_csv(uploads, answers, reader), "fracturelab.csv", "text/csv", on_click="ignore"
        )
        row.download_button(
            "Sheet (PNG)",
            lambda: answers_sheet(uploads, answers, reader, opacity=opacity),
            "fracturelab.png",
            "image/png",
            on_click="ignore",
        )
    for place, (upload, answer) in enumerate(zip(uploads, answers, strict=True)):
        show_one(upload, answer, reader, opacity, place)


def chosen_files() -> list[tuple[str, bytes]]:
    """What was uploaded, else the examples if they were asked for."""
    given = st.file_uploader(
        f"X-rays: PNG, JPEG or DICOM, up to {LIMITS.files} files of {LIMITS.file_bytes // 1_000_000} MB each",
        accept_multiple_files=True,
    )
    if given:
        st.session_state.examples = False
        sentence = too_many(len(given))
        if sentence:
            st.warning(sentence)
        return [(file.name, file.getvalue()) for file in given[: LIMITS.files]]
    if st.button("Try it with examples"):
        st.session_state.examples = True
    if not st.session_state.get("examples"):
        return []
    st.caption(
        "Examples: synthetic radiographs of no patient, unless `realimages/examples` holds others. "
        "A model trained on real X-rays has never seen such pictures and is often wrong on them."
    )
    if "example_files" not in st.session_state:
        st.session_state.example_files = examples(folders.realimages_folder() / "examples", most=4)
    return st.session_state.example_files


def page() -> None:
    """Everything on the page."""
    st.title("fracturelab")
    st.write(
        "Does a small research model see a fracture in an X-ray, how sure is it, and where does it look? "
        "Pictures stay in this program's memory while the page is open; none is stored or sent on."
    )
    reader = chosen_reader()
    if reader is None:
        return
    opacity = st.sidebar.slider("Opacity of the heat map", 0, 100, 55, 5, format="%d%%") / 100
    st.sidebar.subheader("How this model does")
    for fact in model_facts(reader.card):
        st.sidebar.write(fact)
    files = chosen_files()
    if files:
        show_results(files, reader, opacity)


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
