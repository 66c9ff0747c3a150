"""The page in a real browser: what a person sees after each thing a person does.

Skipped, and said so, where there is no Chromium with its driver or no Streamlit and Selenium.
"""

from __future__ import annotations

import csv
import io
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
BROWSER = next((p for p in map(shutil.which, ("chromium", "chromium-browser", "google-chrome")) if p), None)
DRIVER = shutil.which("chromedriver")
PATIENCE = 180  # seconds; a busy machine is no defect of the page

pytestmark = pytest.mark.skipif(
    not (BROWSER and DRIVER),
    reason="Chromium or its driver is missing. Get them with: apt-get install chromium chromium-driver",
)


def wait(condition, what: str, seconds: float = PATIENCE):
    """Poll until the condition gives something; an element that was redrawn meanwhile is looked up again."""
    from selenium.common.exceptions import NoSuchElementException, StaleElementReferenceException

    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            found = condition()
        except (NoSuchElementException, StaleElementReferenceException):
            found = None
        if found:
            return found
        time.sleep(0.2)
    raise AssertionError(f"waited {seconds:.0f} s for {what}")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The app over one small model, in a process of its own; its address and its output's file."""
    pytest.importorskip("streamlit", reason="Streamlit is not installed")
    import keras

    from fracturelab.models.cnn import build_cnn
    from fracturelab.models.files import save_model

    home = tmp_path_factory.mktemp("app")
    card = {"name": "tiny", "threshold": 0.5, "input_size": 64, "data": {"source": "phantoms"}}
    keras.utils.set_random_seed(1)  # with some seeds nothing speaks for a fracture, and there is no heat to see
    save_model(build_cnn(input_size=64), home / "models" / "tiny.keras", card)
    save_model(build_cnn(input_size=32), home / "models" / "other.keras", {**card, "name": "other"})
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    log = home / "log.txt"
    environment = {
        **os.environ,
        "FRACTURELAB_MODELS": str(home / "models"),
        "HOME": str(home),
        "TMPDIR": str(home),
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-m", "streamlit", "run", "app/app.py", "--server.port", str(port)]
    with open(log, "wb") as output:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT)
    address = f"http://localhost:{port}"

    def answers() -> bool:
        assert process.poll() is None, log.read_text()
        try:
            with urllib.request.urlopen(f"{address}/_stcore/health", timeout=5) as reply:
                return reply.status == 200
        except OSError:
            return False

    try:
        wait(answers, "the app to start")
        yield address, port, home
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture(scope="module")
def browser(server, tmp_path_factory):
    """A headless Chromium with the page open."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="Selenium is not installed")
    from selenium.webdriver.chrome.service import Service

    folder = tmp_path_factory.mktemp("browser")
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    switches = [
        "headless=new",
        "no-sandbox",
        "disable-gpu",
        "disable-quic",
        "no-first-run",
        "disable-dev-shm-usage",
        "disable-background-networking",
        "disable-component-update",
        "disable-sync",
        f"user-data-dir={folder / 'profile'}",
        "window-size=1280,1500",
    ]
    for switch in switches:
        options.add_argument(f"--{switch}")
    (folder / "downloads").mkdir()
    options.add_experimental_option("prefs", {"download.default_directory": str(folder / "downloads")})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    driver.downloads = folder / "downloads"
    driver.set_page_load_timeout(PATIENCE)
    try:
        driver.get(server[0])
        wait(lambda: driver.find_element("css selector", "input[type=file]"), "the uploader")
        yield driver
    finally:
        driver.quit()


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("xrays")
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (180, 120)).astype(np.uint8)).save(folder / "good bone.png")
    whole = (folder / "good bone.png").read_bytes()
    (folder / "corrupt.png").write_bytes(whole[: len(whole) // 2])
    (folder / "words.txt").write_text("Dear doctor, here is my X-ray.")
    return folder


def text(driver) -> str:
    return driver.find_element("css selector", "body").text


def upload(driver, *paths: Path) -> None:
    driver.get(driver.current_url)
    wait(lambda: "An example" in text(driver), "the page")
    box = wait(lambda: driver.find_element("css selector", "input[type=file]"), "the uploader")
    box.send_keys("\n".join(map(str, paths)))
    wait(lambda: answered(driver, paths[-1].name), f"an answer to {paths[-1].name}")
    idle(driver)


def idle(driver) -> None:
    """Wait until the page's script has ended; until then Streamlit redraws elements and drops files to download."""
    wait(lambda: driver.find_elements("css selector", "[data-test-script-state=notRunning]"), "the end of the script")


def heat(driver) -> str:
    """Address of the heat map's picture, which stands before the X-ray."""
    shown = driver.find_elements("css selector", "[data-testid=stImage] img")
    return shown[0].get_attribute("src") if len(shown) > 1 else ""


def open_settings(driver):
    """The settings, unfolded."""
    summary = wait(lambda: driver.find_element("xpath", "//summary[contains(., 'Settings')]"), "the settings")
    driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", summary)
    if driver.find_element("css selector", "[data-testid=stExpander] details").get_attribute("open") is None:
        summary.click()
    slider = driver.find_element("css selector", "[data-testid=stSlider]")
    return wait(lambda: slider.is_displayed() and slider, "the slider")


def answered(driver, name: str) -> bool:
    """Whether an answer to a file of this name is shown."""
    return name in text(driver) and "P(fractured) 0." in text(driver) and "An example" not in text(driver)


def sizes(driver) -> list[list[int]]:
    """Width and height of the pictures, once they have been loaded."""
    script = (
        "return [...document.querySelectorAll('[data-testid=stImage] img')].map(i => [i.naturalWidth, i.naturalHeight])"
    )

    def loaded() -> list[list[int]]:
        shown = driver.execute_script(script)
        return shown if all(width for width, _ in shown) else []

    return wait(loaded, "the pictures")


def shoot(driver, name: str) -> None:
    """Keep a picture of the page where somebody wants to look at it."""
    folder = os.environ.get("FRACTURELAB_SCREENSHOTS")
    if folder:
        driver.save_screenshot(str(Path(folder, f"{name}.png")))


def test_the_page_opens_with_an_example_and_its_truth(browser):
    notice = browser.find_element("css selector", ".notice")
    assert notice.text == "Not for clinical use"
    assert notice.is_displayed()
    wait(lambda: "Your X-rays: PNG, JPEG or DICOM" in text(browser), "the uploader's words")
    wait(lambda: "Its card holds no test result" in text(browser), "the model's facts")
    wait(lambda: "Truth: fractured. The answer is" in text(browser), "the example's truth")
    wait(lambda: "The frame is the true place of the fracture" in text(browser), "the frame's meaning")
    wait(lambda: "synthetic radiograph of no patient" in text(browser), "the example's origin")
    shoot(browser, "start")


def test_a_good_image_is_answered_and_explained(browser, files):
    upload(browser, files / "good bone.png")
    wait(lambda: any(words in text(browser) for words in ("toss-up", "Leaning towards", "Clearly")), "its words")
    wait(lambda: heat(browser), "the heat map")
    assert sizes(browser) == [[120, 180], [120, 180]]
    shoot(browser, "good")


def test_the_bar_has_a_tick_at_the_threshold(browser, files):
    bar = browser.find_element("css selector", ".bar")
    tick = browser.find_element("css selector", ".tick")
    left = (tick.rect["x"] + tick.rect["width"] / 2 - bar.rect["x"]) / bar.rect["width"]
    assert left == pytest.approx(0.5, abs=0.02)
    assert ", threshold 0.50: " in bar.get_attribute("aria-label")


def test_the_notice_stays_in_sight_when_scrolled(browser, files):
    browser.execute_script("document.querySelector('[data-testid=stMain]').scrollTo(0, 10000)")
    rectangle = browser.find_element("css selector", ".notice").rect
    top = browser.execute_script("return document.querySelector('.notice').getBoundingClientRect().top")
    assert top == 0
    assert rectangle["height"] > 10


def test_the_slider_changes_the_heat_and_not_the_answer(browser, files):
    from selenium.webdriver.common.keys import Keys

    upload(browser, files / "good bone.png")
    open_settings(browser)
    before = wait(lambda: heat(browser), "the heat map")
    assert "there is no heat" not in text(browser)
    line = next(words for words in text(browser).splitlines() if words.startswith("P(fractured)"))
    handle = browser.find_element("css selector", "[data-testid=stSlider] [role=slider], [data-testid=stSlider] input")
    for _ in range(4):
        handle.send_keys(Keys.ARROW_LEFT)
    wait(lambda: heat(browser) not in ("", before), "another heat map")
    assert line in text(browser)
    assert "35%" in text(browser)


def test_the_result_can_be_downloaded(browser, files):
    upload(browser, files / "good bone.png")
    wait(lambda: "(CSV)" in text(browser), "the downloads")
    model = "tiny" if "Table of tiny" in text(browser) else "other"
    table, report = (browser.downloads / f"fracturelab-{model}.{kind}" for kind in ("csv", "html"))
    for label, name in ((f"Table of {model} (CSV)", table.name), (f"Report of {model} (HTML)", report.name)):
        button = wait(
            lambda label=label: browser.find_element("xpath", f"//button[contains(., '{label}')]"),
            f"the button {label}",
        )
        button.click()
        wait(lambda name=name: (browser.downloads / name).is_file(), f"the download of {name}")
    with open(table, encoding="utf-8-sig") as file:
        row = next(csv.DictReader(file))
    assert row["file"] == "good bone.png"
    assert f"P(fractured) {float(row['p_fracture']):.2f}: {row['label']}" in text(browser)
    assert row["note"] == "Not for clinical use"
    page = report.read_text(encoding="utf-8")
    assert page.count("<img src=") == 2
    assert "Not for clinical use" in page and "good bone.png" in page


def test_wrong_files_get_sentences_and_leave_the_good_ones_alone(browser, files):
    upload(browser, files / "corrupt.png", files / "words.txt", files / "good bone.png")
    wait(lambda: "1 of 3 read" in text(browser), "the result of three files")
    # The page grows from above: the last sentence is there before the good image's answer may be.
    rows = browser.find_elements("css selector", "table.all tr")
    assert len(rows) == 4
    assert len(browser.find_elements("css selector", "table.all img")) == 1
    expected = ("words.txt cannot be read: not an image", "corrupt.png cannot be read: ", "P(fractured) 0.")
    wait(lambda: all(words in text(browser) for words in expected), "two sentences and an answer")
    shown = text(browser)
    for trace in ("Traceback", "Error:", 'File "', "UnreadableImageError"):
        assert trace not in shown
    shoot(browser, "wrong")


def test_a_dicom_file_is_answered_and_its_header_stays_unread(browser, files):
    pydicom = pytest.importorskip("pydicom", reason="pydicom is not installed")
    path = files / "series 7.dcm"
    path.write_bytes(dicom(pydicom, np.linspace(0, 4095, 150 * 110).reshape(150, 110).astype(np.uint16)))
    upload(browser, path)
    wait(lambda: heat(browser), "the heat map")
    assert sizes(browser) == [[110, 150], [110, 150]]
    for secret in ("Doe^", "Secret", "secret-77"):
        assert secret not in browser.page_source


def dicom(pydicom, pixels: np.ndarray) -> bytes:
    """A radiograph as scanners store it, dark where bone is, with a patient's name in its header."""
    dataset = pydicom.Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1"
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    dataset.PatientName, dataset.PatientID = "Doe^Secret", "secret-77"
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME1"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 12, 11, 0
    dataset.PixelData = pixels.tobytes()
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def test_more_examples_at_the_press_of_a_button(browser):
    browser.get(browser.current_url)
    button = wait(lambda: browser.find_element("xpath", "//button[contains(., 'More examples')]"), "the button")
    button.click()
    wait(lambda: text(browser).count("Truth: ") > 1, "more examples")
    assert browser.find_element("css selector", ".notice").is_displayed()
    shoot(browser, "examples")


def test_two_models_stand_side_by_side(browser, files):
    from selenium.webdriver.common.keys import Keys

    upload(browser, files / "good bone.png")
    open_settings(browser)
    choice = browser.find_elements("css selector", "[data-testid=stSelectbox] input")[1]
    choice.send_keys(Keys.ARROW_DOWN, Keys.ARROW_DOWN, Keys.ENTER)
    wait(lambda: len(browser.find_elements("css selector", ".answer")) == 2, "two answers")
    wait(lambda: {"Model: tiny", "Model: other"} <= set(text(browser).splitlines()), "the names of both models")
    idle(browser)
    tops = [verdict.rect["y"] for verdict in browser.find_elements("css selector", ".answer")]
    assert tops[0] == tops[1]
    shoot(browser, "two models")


def test_on_a_phone_the_verdict_comes_before_pictures_and_settings(browser, files):
    metrics = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        upload(browser, files / "good bone.png")
        wait(lambda: heat(browser), "the heat map")
        places = [
            browser.find_element("css selector", name).rect["y"]
            for name in (".answer", "[data-testid=stImage]", "[data-testid=stExpander]")
        ]
        assert places == sorted(places)
        assert places[0] < 800
        wide = browser.execute_script("return document.documentElement.scrollWidth")
        assert wide <= 390
        shoot(browser, "phone")
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_the_keyboard_reaches_everything(browser, files):
    from selenium.webdriver.common.keys import Keys

    upload(browser, files / "good bone.png")
    names, places = set(), set()
    inside = "return !!arguments[0].closest('[data-testid=stFileUploader]')"
    for _ in range(60):  # round the whole page, whatever had the focus before
        browser.switch_to.active_element.send_keys(Keys.TAB)
        focused = browser.switch_to.active_element
        names.add(focused.text.strip())
        places.add(browser.execute_script(inside, focused))
    assert places == {True, False}  # the uploader, and what lies beside it
    for words in ("This heat map (PNG)", "Settings: model, comparison, heat map"):
        assert any(words in name for name in names), (words, names)


CONTRAST = """
const rgb = text => text.match(/[\\d.]+/g).map((n, i) => i < 3 && text.startsWith("color(") ? 255 * n : Number(n));
const light = ([r, g, b]) => [r, g, b].map(c => (c /= 255) <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
  .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
const ground = node => { while (node) { const c = rgb(getComputedStyle(node).backgroundColor);
  if (c.length < 4 || c[3] > 0.99) return c; node = node.parentElement; } return [255, 255, 255]; };
const shown = node => node.offsetParent !== null || getComputedStyle(node).position === "fixed";
return [...document.querySelectorAll(arguments[0])].filter(node => shown(node) && node.innerText).map(node => {
  const [a, b] = [light(rgb(getComputedStyle(node).color)), light(ground(node))].sort((x, y) => y - x);
  return (a + 0.05) / (b + 0.05); });
"""


def test_words_stand_out_from_their_ground(browser, files):
    upload(browser, files / "good bone.png")
    for name in (".notice", ".answer", ".mark", "[data-testid=stMarkdownContainer] p"):
        ratios = browser.execute_script(CONTRAST, name)
        assert ratios, name
        assert min(ratios) >= 4.5, (name, ratios)


def test_the_server_listens_on_this_machine_alone_and_keeps_nothing(server, files):
    _, port, home = server
    listening = [
        line.split()[1]
        for table in ("tcp", "tcp6")
        if Path(f"/proc/net/{table}").exists()
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]
        if line.split()[3] == "0A" and line.split()[1].endswith(f":{port:04X}")
    ]
    if Path("/proc/net/tcp").exists():
        assert listening
        assert all(where.split(":")[0] in ("0100007F", "0" * 24 + "01000000") for where in listening)
    pictures = [path.read_bytes() for path in files.iterdir() if path.suffix in (".png", ".dcm")]
    for path in home.rglob("*"):
        if path.is_file():
            held = path.read_bytes()
            assert not any(picture in held for picture in pictures), path
    assert "Traceback" not in (home / "log.txt").read_text()
