"""The notebook runner, on tiny notebooks written here."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from PIL import Image

from fracturelab.errors import FracturelabError
from scripts.notebooks import find_notebooks, run_notebook, tidy, with_parameters
from scripts.notebooks.__main__ import main
from scripts.notebooks.cells import save_pictures


def notebook(*sources: str, parameters: str | None = None) -> nbformat.NotebookNode:
    cells = [new_markdown_cell("# A question", id="title")]
    if parameters is not None:
        cells.append(new_code_cell(parameters, metadata={"tags": ["parameters"]}, id="parameters"))
    cells += [new_code_cell(source, id=f"cell-{i}") for i, source in enumerate(sources)]
    return new_notebook(cells=cells)


def written(path: Path, *sources: str, parameters: str | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook(*sources, parameters=parameters), path)
    return path


def printed(path: Path) -> str:
    cells = nbformat.read(path, as_version=4).cells
    return "".join(output.get("text", "") for cell in cells for output in cell.get("outputs", []))


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project folder with a space in its name, two notebooks, and the working folder in it."""
    root = tmp_path / "my project"
    root.mkdir()
    (root / "pyproject.toml").write_text('[project]\nname = "fracturelab"\n')
    where = "import os; from fracturelab.system.folders import reports_folder, models_folder\n"
    written(
        root / "notebooks" / "01_first.ipynb",
        "print('data:', DATA)",
        where + "print(reports_folder())",
        "print(models_folder())",
        parameters="DATA = None\nSIZE: int = 64",
    )
    written(root / "notebooks" / "02_second.ipynb", "print(object())", "object()", parameters="DATA = None")
    monkeypatch.chdir(root)
    for name in ("FRACTURELAB_REPORTS", "FRACTURELAB_MODELS"):
        monkeypatch.delenv(name, raising=False)
    return root


def xrays(folder: Path) -> Path:
    for label in ("fractured", "normal"):
        (folder / label).mkdir(parents=True)
        Image.new("L", (40, 30), 90).save(folder / label / "a.png")
    return folder


def test_parameters_stand_after_the_tagged_cell_and_replace_earlier_ones():
    original = notebook("print(SIZE)", parameters="DATA = None\nSIZE = 64")
    once = with_parameters(original, {"SIZE": 8})
    twice = with_parameters(once, {"SIZE": 16, "DATA": "a 'b'"})
    assert [cell.metadata.get("tags") for cell in twice.cells] == [None, ["parameters"], ["injected-parameters"], None]
    names: dict[str, object] = {}
    exec(twice.cells[2].source, names)
    assert (names["SIZE"], names["DATA"]) == (16, "a 'b'")
    assert len(original.cells) == 3
    assert len(with_parameters(twice, {}).cells) == 3


def test_a_parameter_that_the_notebook_does_not_have_is_refused():
    with pytest.raises(FracturelabError, match="among DATA, SIZE.*Received: SIEZ"):
        with_parameters(notebook(parameters="DATA = None\nSIZE: int = 64"), {"SIEZ": 8})
    with pytest.raises(FracturelabError, match="tagged parameters"):
        with_parameters(notebook("1"), {"SIZE": 8})


def test_two_runs_write_the_same_bytes(project):
    path = project / "notebooks" / "02_second.ipynb"
    assert run_notebook(path, path) is None
    first = path.read_bytes()
    assert b"object object>" in first
    assert b" at 0x" not in first
    assert run_notebook(path, path) is None
    assert path.read_bytes() == first


def test_tidy_leaves_what_a_reader_looks_at():
    ran = notebook("1")
    ran.cells[1].outputs = [nbformat.v4.new_output("display_data", {"image/png": "aGFsbG8=", "text/plain": "<Figure>"})]
    ran.cells[1].execution_count = 1
    ran.cells[1].metadata["execution"] = {"iopub.execute_input": "2026-01-01"}
    ran.metadata["language_info"] = {"name": "python", "version": "3.11.7"}
    done = tidy(ran)
    assert done.cells[1].outputs[0].data["image/png"] == "aGFsbG8="
    assert done.cells[1].execution_count == 1
    assert "execution" not in done.cells[1].metadata
    assert done.metadata["language_info"] == {"name": "python"}


def test_tidy_takes_off_what_libraries_say_while_they_load():
    noise = (
        "WARNING: All log messages before absl::InitializeLog() is called are written to STDERR\n"
        "I0000 00:00:1795228832.388848   22364 port.cc:153] oneDNN custom operations are on.\n"
    )
    ran = notebook("1")
    ran.cells[1].outputs = [
        nbformat.v4.new_output("stream", name="stderr", text=noise),
        nbformat.v4.new_output("stream", name="stderr", text=noise + "UserWarning: look here\n"),
        nbformat.v4.new_output("stream", name="stdout", text="WARNING: All log messages before absl:: is mine\n"),
    ]
    kept = [output["text"] for output in tidy(ran).cells[1].outputs]
    assert kept == ["UserWarning: look here\n", "WARNING: All log messages before absl:: is mine\n"]


def test_tidy_takes_off_where_a_warning_s_library_lies():
    ran = notebook("1")
    text = "/home/someone/.venv/lib/python3.11/site-packages/keras/ops.py:9: UserWarning: a softmax\n"
    ran.cells[1].outputs = [nbformat.v4.new_output("stream", name="stderr", text=text)]
    assert tidy(ran).cells[1].outputs[0]["text"] == "keras/ops.py:9: UserWarning: a softmax\n"


def test_tidy_takes_off_progress_bars_that_nothing_can_show():
    ran = notebook("1")
    bar = {"application/vnd.jupyter.widget-view+json": {"model_id": "1f"}, "text/plain": "  0%|          | 0/100"}
    table = {"text/html": "<table></table>", "text/plain": "a"}
    ran.cells[1].outputs = [nbformat.v4.new_output("display_data", data) for data in (bar, table)]
    assert [output["data"]["text/plain"] for output in tidy(ran).cells[1].outputs] == ["a"]


def test_notebooks_are_found_in_order_and_by_number(tmp_path):
    for name in ("02_b", "01_a", "05_e", "notes"):
        written(tmp_path / f"{name}.ipynb", "1")
    assert [path.stem for path in find_notebooks(tmp_path)] == ["01_a", "02_b"]
    assert [path.stem for path in find_notebooks(tmp_path, everything=True)] == ["01_a", "02_b", "05_e"]
    assert [path.stem for path in find_notebooks(tmp_path, only=["05"])] == ["05_e"]
    with pytest.raises(FracturelabError, match="01_a, 02_b, 05_e.*Received: 07"):
        find_notebooks(tmp_path, only=["01", "07"])


def test_the_default_runs_in_place_with_a_line_a_notebook(project, capfd):
    assert main([]) == 0
    said = capfd.readouterr().out
    assert said.count("\n[1/2] 01_first") == 1
    assert said.count("\n[2/2] 02_second") == 1
    assert "Where to look" in said
    assert printed(project / "notebooks" / "01_first.ipynb").split("\n")[0] == "data: None"
    assert str(project / "reports") in printed(project / "notebooks" / "01_first.ipynb")
    assert not (project / "reports" / "runs").exists()


def test_own_data_go_to_a_run_of_their_own_and_leave_the_tracked_notebooks_alone(project, tmp_path, capfd):
    written(project / "notebooks" / "08_synthetic.ipynb", "1", parameters="SEED = 0")
    before = {path: path.read_bytes() for path in (project / "notebooks").iterdir()}
    data = xrays(tmp_path / "ward 7")
    assert main(["--all", "--data", str(data)]) == 0
    assert {path: path.read_bytes() for path in (project / "notebooks").iterdir()} == before
    (run,) = (project / "reports" / "runs").iterdir()
    assert run.name.startswith("ward-7-")
    assert sorted(path.name for path in run.iterdir()) == ["01_first.ipynb", "02_second.ipynb"]
    assert printed(run / "01_first.ipynb").split("\n")[:3] == [f"data: {data}", str(run), str(run / "models")]
    said = capfd.readouterr().out
    assert "08_synthetic needs the synthetic X-rays and is left out." in said
    assert str(run.relative_to(project)) in said


def test_real_images_of_ones_own_never_end_up_in_a_tracked_notebook(project, capfd):
    (project / "realimages" / "examples").mkdir(parents=True)
    Image.new("L", (40, 30), 90).save(project / "realimages" / "examples" / "a.png")
    where = (
        "from fracturelab.system.folders import reports_folder, models_folder\nprint(reports_folder(), models_folder())"
    )
    path = written(project / "notebooks" / "04_real.ipynb", where, parameters="DATA = None")
    assert main(["--only", "04"]) == 0
    assert f"{project / 'reports'} {project / 'models'}" in printed(path)

    Image.new("L", (40, 30), 90).save(project / "realimages" / "mine.png")
    before = path.read_bytes()
    assert main([]) == 0
    assert path.read_bytes() == before
    assert printed(project / "notebooks" / "01_first.ipynb")  # the others are run in place
    [copy] = (project / "reports" / "runs").glob("realimages-*/04_real.ipynb")
    assert f"{copy.parent} {project / 'models'}" in printed(copy)
    said = capfd.readouterr().out
    assert "realimages/ holds X-rays of your own" in said
    assert str(copy.relative_to(project)) in said


def test_figures_are_kept_whatever_backend_the_terminal_uses(project, monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "Agg")
    path = written(project / "notebooks" / "01_first.ipynb", "import matplotlib.pyplot as plt; plt.plot([1]);")
    assert main(["--only", "01"]) == 0
    outputs = nbformat.read(path, as_version=4).cells[-1].outputs
    assert any("image/png" in output.get("data", {}) for output in outputs)


def test_without_training_a_run_takes_the_models_of_the_last_one_over_the_same_data(project, tmp_path):
    data = xrays(tmp_path / "ward")
    earlier = project / "reports" / "runs" / "ward-20260101-120000" / "models"
    earlier.mkdir(parents=True)
    (earlier / "local").mkdir()
    (earlier / "local" / "v1.keras").write_bytes(b"a model")
    other = project / "reports" / "runs" / "ward-two-20270101-120000" / "models"
    other.mkdir(parents=True)
    (other / "v1.keras").write_bytes(b"a model of other data")
    assert main(["--data", str(data), "--only", "01"]) == 0
    (run,) = (path for path in (project / "reports" / "runs").iterdir() if (path / "01_first.ipynb").exists())
    assert printed(run / "01_first.ipynb").split("\n")[2] == str(earlier)


def test_a_failing_notebook_stops_the_run_shows_the_cell_and_stays_as_it_was(project, capfd):
    path = written(project / "notebooks" / "01_first.ipynb", "first = 1", "value = {}\nvalue['missing']")
    before = path.read_bytes()
    assert main(["--jobs", "1"]) == 1
    said = capfd.readouterr()
    assert "01_first.ipynb, cell 3" in said.err
    assert "value['missing']" in said.err
    assert "KeyError: 'missing'" in said.err
    assert "Traceback" not in said.err
    assert "02_second" not in said.out
    assert path.read_bytes() == before


def test_two_run_at_once_and_the_one_that_needs_them_comes_after(project, capfd):
    """Each of 01 and 02 waits until the other has begun; 03 needs what 02 leaves, and 04 what both leave."""
    begin = (
        "import time\nfrom pathlib import Path\nPath('../{me}').touch()\nend = time.time() + 60\n"
        "while not Path('../{other}').exists():\n    assert time.time() < end\n    time.sleep(0.05)\n"
        "Path('../{me} done').touch()"
    )
    written(project / "notebooks" / "01_first.ipynb", begin.format(me="one", other="two"))
    written(project / "notebooks" / "02_second.ipynb", begin.format(me="two", other="one"))
    done = "from pathlib import Path; print(*sorted(path.name for path in Path('..').glob('* done')))"
    third = written(project / "notebooks" / "03_third.ipynb", f"{done}; Path('../three done').touch()")
    path = written(project / "notebooks" / "04_last.ipynb", done)
    assert main(["--jobs", "3"]) == 0
    assert "two done" in printed(third)
    assert "three done two done" in printed(path)
    said = capfd.readouterr().out
    assert said.index("03_third") < said.index("04_last") and said.index("02_second") < said.index("04_last")


def test_after_a_failure_what_runs_is_finished_and_nothing_else_begins(project, capfd):
    written(project / "notebooks" / "01_first.ipynb", "import time; time.sleep(3)", "print('whole')")
    written(project / "notebooks" / "02_second.ipynb", "1 / 0")
    last = written(project / "notebooks" / "03_third.ipynb", "print('begun')")
    assert main(["--jobs", "2"]) == 1
    said = capfd.readouterr()
    assert "ZeroDivisionError" in said.err
    assert "02_second" in said.out and "failed" in said.out and "03_third" not in said.out
    assert printed(project / "notebooks" / "01_first.ipynb") == "whole\n"
    assert printed(last) == ""


def test_what_the_user_gave_is_one_line_and_exit_code_2(project, tmp_path, capfd):
    assert main(["--data", str(tmp_path / "nowhere")]) == 2
    assert capfd.readouterr().err.count("\n") == 1
    source = "from fracturelab.errors import FracturelabError as Error\nraise Error('one class only: add normal ones')"
    written(project / "notebooks" / "01_first.ipynb", source)
    assert main(["--only", "01"]) == 2
    assert capfd.readouterr().err == "fracturelab: error: one class only: add normal ones\n"
    (project / "notebooks" / "01_first.ipynb").write_text("not a notebook")
    assert main(["--only", "01"]) == 2


def test_a_dead_kernel_and_an_endless_cell_are_told_from_each_other(project, capfd):
    written(project / "notebooks" / "01_first.ipynb", "import os; os._exit(9)")
    assert main(["--only", "01"]) == 1
    assert "kernel died" in capfd.readouterr().err
    written(project / "notebooks" / "01_first.ipynb", "while True: pass")
    assert main(["--only", "01", "--timeout", "2"]) == 1
    assert "timeout" in capfd.readouterr().err


def test_the_summary_shows_numbers_of_this_run_only(project, capfd):
    interval = "{'value': 0.875, 'low': 0.75, 'high': 0.95}"
    write = (
        "from fracturelab.records import write_record\n"
        f"write_record('v9-{{}}', kind='evaluation', data={{'source': 'field'}}, "
        f"results={{'model': 'v9', 'n': 60, 'metrics': {{'roc_auc': {interval}}}}});"
    )
    written(project / "notebooks" / "01_first.ipynb", write.replace("v9-{}", "v9-x"))
    assert main(["--only", "01"]) == 0
    line = next(line for line in capfd.readouterr().out.splitlines() if line.startswith("v9"))
    assert line.split() == ["v9-x", "60", "0.875", "0.750", "to", "0.950"]
    old = project / "reports" / "results" / "v9-x.json"
    assert old.exists()
    written(project / "notebooks" / "01_first.ipynb", "1")
    import time

    time.sleep(1.1)
    assert main(["--only", "01"]) == 0
    assert "v9" not in capfd.readouterr().out


def test_pictures_get_smaller_and_look_the_same():
    import base64
    import io

    import numpy as np
    from PIL import Image

    from scripts.notebooks.cells import smaller_png

    grey = np.random.default_rng(0).integers(0, 256, (200, 300), dtype=np.uint8)
    target = io.BytesIO()
    Image.fromarray(np.dstack([grey, grey, grey, np.full_like(grey, 255)])).save(target, "PNG")
    before = base64.b64encode(target.getvalue()).decode()
    after = smaller_png(before)
    assert len(after) < 0.6 * len(before)
    shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(after))).convert("L"))
    assert np.abs(shown.astype(int) - grey).max() <= 6


def test_a_radiograph_beside_colours_stays_grey():
    import base64
    import io

    import numpy as np
    from PIL import Image

    from scripts.notebooks.cells import smaller_png

    rng = np.random.default_rng(0)
    picture = np.repeat(rng.integers(0, 256, (200, 300, 1), dtype=np.uint8), 3, axis=2)
    picture[:, 150:] = rng.integers(0, 256, (200, 150, 3), dtype=np.uint8)
    picture[:, 150:, 0] = 255
    target = io.BytesIO()
    Image.fromarray(picture).save(target, "PNG")
    after = smaller_png(base64.b64encode(target.getvalue()).decode())
    shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(after))).convert("RGB")).astype(int)
    assert np.ptp(shown[:, :150], axis=2).max() == 0
    assert np.abs(shown[:, :150] - picture[:, :150]).max() <= 6
    assert np.abs(shown[:, 150:] - picture[:, 150:]).mean() < 20


def test_importing_the_progress_bar_says_nothing_in_a_kernel(project):
    path = written(
        project / "notebooks" / "01_first.ipynb",
        "import sys; sys.modules['ipywidgets'] = None",
        "import fracturelab.system.progress",
    )
    assert main(["--only", "01"]) == 0
    assert printed(path) == ""


def test_pictures_are_saved_by_the_name_of_their_cell(tmp_path):
    encoded = "iVBORw0KGgo="
    output = nbformat.v4.new_output("display_data", data={"image/png": encoded, "text/plain": "<Figure>"})
    book = notebook("1", "2")
    book.cells[1].outputs = [output, output]
    book.cells[2].outputs = [output]
    book.cells[2].id = "02-17"
    files = save_pictures(book, tmp_path / "figures", prefix="02")
    assert [path.name for path in files] == ["02-cell-0.png", "02-cell-0-2.png"]
    assert files[0].read_bytes() == b"\x89PNG\r\n\x1a\n"
