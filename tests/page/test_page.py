"""The page in a real browser, and with several users at once."""

import json
import zipfile
from concurrent.futures import ThreadPoolExecutor
from urllib.request import Request, urlopen

import numpy as np
import pytest
from browser import Browser
from launched import free_port
from PIL import Image
from served import small_checkpoint

from modeling_maskformer.commands import app
from modeling_maskformer.inference.uploads import UploadLimits

NEEDED = "the page needs gradio: pip install -e '.[app]'"
pytest.importorskip("gradio", reason=NEEDED)
gradio_client = pytest.importorskip("gradio_client", reason=NEEDED)
page = pytest.importorskip("modeling_maskformer.page.page", reason=NEEDED)

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::ResourceWarning")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    random = np.random.default_rng(0)
    for name, (width, height) in {"wide": (60, 40), "high": (40, 60), "example": (50, 50)}.items():
        Image.fromarray(random.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(folder / f"{name}.png")
    (folder / "broken.jpg").write_bytes(b"no picture")
    Image.new("L", (400, 300)).save(folder / "huge.png")
    Image.fromarray(random.integers(0, 256, (200, 300, 3), dtype=np.uint8)).save(folder / "heavy.png")
    return folder


@pytest.fixture(scope="module")
def url(photos):
    """A page of two checkpoints."""
    checkpoints = [small_checkpoint(), page.Checkpoint("baseline", *vars_of(small_checkpoint("per_pixel")))]
    settings = page.PageSettings(upload=UploadLimits(0.1, 100_000), concurrency=2, examples=[photos / "example.png"])
    port = free_port()
    made = page.make_page(checkpoints, settings)
    page.launch(made, "127.0.0.1", port, settings, prevent_thread_lock=True)
    yield f"http://127.0.0.1:{port}"
    made.close()


def vars_of(checkpoint):
    return checkpoint.model, checkpoint.image_processor


def test_several_users_get_their_own_results_at_once(url, photos):
    def segment(name):
        client = gradio_client.Client(url, verbose=False)
        file = gradio_client.handle_file(str(photos / f"{name}.png"))
        shown, archive = client.predict(file, "street", "panoptic", 0.3, api_name="/segment")
        return json.loads(shown), archive["value"] if isinstance(archive, dict) else archive

    names = ["wide", "high"] * 3
    with ThreadPoolExecutor(6) as users:
        for name, (shown, archive) in zip(names, users.map(segment, names), strict=True):
            assert len(shown["segments"]) > 0
            with zipfile.ZipFile(archive) as files:
                assert {f"panoptic/{name}.png", f"overlays/{name}.jpg", "panoptic.json"} <= set(files.namelist())
                (image,) = json.loads(files.read("panoptic.json"))["images"]
            assert (image["width"], image["height"]) == ((60, 40) if name == "wide" else (40, 60))


def test_no_file_of_the_machine_can_be_asked_for(url, tmp_path):
    Image.new("RGB", (40, 40)).save(tmp_path / "secret.png")

    def ask(path):
        file = {"path": str(path), "meta": {"_type": "gradio.FileData"}}
        body = json.dumps({"data": [file, "street", "semantic", 0.3]}).encode()
        wish = Request(f"{url}/gradio_api/call/segment", body, {"content-type": "application/json"})
        with urlopen(wish) as answer:
            number = json.loads(answer.read())["event_id"]
        with urlopen(f"{url}/gradio_api/call/segment/{number}") as events:
            return events.read().decode()

    assert "event: error" in ask(tmp_path / "secret.png") and "segments" not in ask(tmp_path / "secret.png")


@pytest.fixture
def browser(tmp_path):
    (tmp_path / "downloads").mkdir()
    browser = Browser(tmp_path / "profile", tmp_path / "downloads")
    yield browser
    browser.driver.quit()


def test_a_picture_is_segmented_pointed_at_and_taken_home(url, photos, browser, tmp_path):
    browser.open(url)
    browser.find("#task label")[0].click()  # semantic: every pixel has a class
    browser.until(lambda: not browser.texts("#threshold"))
    browser.upload(photos / "wide.png")
    rows = browser.until(browser.rows)
    assert sum(float(row.split()[-2]) for row in rows) == pytest.approx(100, abs=3)
    canvas = browser.find("#overlay canvas")[0]
    browser.actions(browser.driver).move_to_element(canvas).perform()
    (tip,) = browser.until(lambda: browser.texts(".overlay-tip"))
    assert browser.texts("#overlay tr.chosen")[0].startswith(tip)

    browser.driver.execute_script(
        "const range = document.querySelector('#overlay input[type=range]');"
        "range.value = 20; range.dispatchEvent(new Event('input', {bubbles: true}));"
    )
    assert canvas.value_of_css_property("opacity") == "0.2"

    browser.find("#task label")[1].click()  # instance
    browser.until(lambda: browser.find("#threshold input[type=range]"))
    browser.until(lambda: browser.rows() != rows)
    browser.until(lambda: browser.find("#download")[0].is_enabled())
    browser.find("#download")[0].click()
    archive = browser.until(lambda: next((tmp_path / "downloads").glob("*.zip"), None))
    assert archive.name == "wide-instance.zip"
    with zipfile.ZipFile(archive) as files:
        assert {"instances.json", "overlays/wide.jpg"} <= set(files.namelist())
    assert browser.hosts() == {"127.0.0.1"}  # nothing of the page comes from elsewhere
    assert not [entry for entry in browser.driver.get_log("browser") if entry["level"] == "SEVERE"]


def test_what_cannot_be_read_gives_a_message_and_the_page_lives_on(url, photos, browser):
    browser.open(url)
    browser.find("#task label")[0].click()
    for name, sentence in (
        ("broken.jpg", "of no known kind"),
        ("huge.png", "it is 400 x 300 pixels (width x height), expected at most 100000"),
        ("heavy.png", "exceed the maximum allowed size"),
    ):
        browser.upload(photos / name)
        browser.until(lambda sentence=sentence: sentence in " ".join(browser.texts(".overlay-message, .toast-body")))
        assert not browser.rows()
    browser.upload(photos / "high.png")
    browser.until(browser.rows)
    assert not browser.texts(".overlay-message")


def test_checkpoints_and_examples_are_chosen(url, browser):
    browser.open(url)
    browser.find("#task label")[0].click()
    browser.find(".gallery img, .gallery button, .gallery-item, .thumbnail-item")[0].click()
    browser.until(browser.rows)
    browser.find("#checkpoint input")[0].click()

    def choose():
        [option] = [option for option in browser.find("ul[role=listbox] li") if "baseline" in option.text]
        option.click()
        return True

    browser.until(choose)  # the list may be drawn anew between finding and clicking
    browser.until(lambda: browser.texts("#task label") == ["Semantic"])
    browser.until(browser.rows)


def test_it_fits_a_phone(url, photos, browser):
    metrics = {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True}
    browser.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    browser.open(url)
    browser.find("#task label")[0].click()
    browser.upload(photos / "wide.png")
    browser.until(browser.rows)
    assert browser.driver.execute_script("return document.documentElement.scrollWidth") <= 390


def test_what_cannot_be_shown_is_refused(tmp_path, capsys):
    for flags, sentence in (
        ([tmp_path], "has no config.json"),
        ([tmp_path, "--examples", tmp_path / "nothing"], "There is no file or folder"),
        ([tmp_path, "--concurrency", 0], "--concurrency: must be at least 1, got 0"),
    ):
        with pytest.raises(SystemExit) as stop:
            app.main([str(flag) for flag in flags])
        assert stop.value.code == 2 and sentence in capsys.readouterr().err
