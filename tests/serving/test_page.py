"""The page in a real Chromium, as a person uses it. `PAGE_SHOTS=folder` keeps pictures of it."""

import base64
import io
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import toy
from conftest import Running, running, serving
from PIL import Image
from playwright import sync_api

from serving import challengers, store
from serving.refs import ModelRef

pytestmark = pytest.mark.browser
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
PHONE = {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def browser() -> Iterator["sync_api.Browser"]:
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser, service) -> Iterator["sync_api.Page"]:
    """The page, loaded; whatever the browser complains about fails the test."""
    page = browser.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(service.url + "/ui")
    page.get_by_text("version v1").wait_for()
    page.get_by_role("button", name="Sample 5").wait_for()
    yield page
    page.close()
    assert [text for text in complaints if "status of 4" not in text] == []


def shot(page: "sync_api.Page", name: str, *, full_page: bool = True) -> None:
    if folder := os.environ.get("PAGE_SHOTS"):
        page.screenshot(path=str(Path(folder) / f"{name}.png"), full_page=full_page)


def answer(page: "sync_api.Page") -> str:
    page.locator("#result").wait_for()
    page.locator("#busy").wait_for(state="hidden")
    return str(page.locator("#label").inner_text())


def test_a_chosen_picture_is_answered_with_bars(page, tmp_path):
    path = tmp_path / "lamp.png"
    path.write_bytes(toy.picture(140, size=(300, 200)))
    page.locator("#chosen").set_input_files(path)
    assert answer(page).startswith("bright")
    assert page.locator("#scores li").count() == 2
    widths = [bar.bounding_box()["width"] for bar in page.locator("#scores .fill").all()]
    assert widths[0] > 2 * widths[1]
    assert re.fullmatch(r"answered by toy@v1 in \d+ ms", page.locator("#footnote").inner_text())
    assert page.locator("#caption").inner_text() == "lamp.png"
    shot(page, "chosen")


def test_a_sample_is_answered_by_a_click(page):
    page.get_by_role("button", name="Sample 1, which shows: dark").click()
    assert answer(page).startswith("dark")
    shot(page, "sample")


def test_whether_an_answer_to_a_sample_is_right_is_said_in_words(page, tmp_path):
    page.get_by_role("button", name="Sample 1, which shows: dark").click()
    page.locator("#truth", has_text="Right").wait_for()
    page.get_by_role("button", name="Sample 5, which shows: bright").click()
    page.locator("#truth", has_text="Wrong: it shows bright").wait_for()
    assert answer(page).startswith("dark")
    assert page.locator("#said").text_content().endswith("Wrong: it shows bright")
    shot(page, "wrong")
    path = tmp_path / "mine.png"
    path.write_bytes(toy.picture(140))
    page.locator("#chosen").set_input_files(path)
    page.locator("#caption", has_text="mine.png").wait_for()
    assert not page.locator("#truth").is_visible()


def test_what_the_model_is_not_sure_of_is_said_in_words(browser, page, tmp_path):
    page.get_by_role("button", name="Sample 1, which shows: dark").click()
    assert answer(page).startswith("dark")
    assert page.locator("#unsure").text_content() == ""  # it has no threshold
    energies = tuple(np.linspace(-6, -1.5, 101).tolist())  # of greys that are far from the middle
    with serving(tmp_path, toy.bundle(tmp_path / "v1", version="v1", sure=0.9, energies=energies)) as service:
        other = browser.new_page()
        other.goto(service.url + "/ui")
        other.get_by_role("button", name="Sample 5").click()  # grey 120, answered with 0.68
        assert answer(other).startswith("dark")
        other.locator("#unsure", has_text="Not sure: better let somebody look").wait_for()
        other.locator("#unsure", has_text="Strange: hardly a picture").wait_for()
        assert "? Not sure" in other.locator("#said").text_content()
        shot(other, "unsure")
        other.get_by_role("button", name="Sample 4").click()
        other.locator("#label", has_text="bright").wait_for()
        assert other.locator("#unsure").text_content() == ""
        other.close()


def test_the_page_is_used_by_keyboard_alone(page):
    picture = {"name": "a.png", "mimeType": "image/png", "buffer": toy.picture(10)}
    page.on("filechooser", lambda chooser: chooser.set_files(picture))
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "zone"
    page.keyboard.press("Enter")
    assert answer(page).startswith("dark")
    for _ in range(4):
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.locator("#caption", has_text="Sample 4").wait_for()
    assert answer(page).startswith("bright")


HANDED = """([kind, name, text]) => {
  const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  const transfer = new DataTransfer();
  transfer.items.add(new File([bytes], name, { type: "image/png" }));
  const event = kind === "drop"
    ? new DragEvent("drop", { dataTransfer: transfer, bubbles: true, cancelable: true })
    : new ClipboardEvent("paste", { clipboardData: transfer, bubbles: true });
  document.getElementById("zone").dispatchEvent(event);
}"""


@pytest.mark.parametrize("kind", ["drop", "paste"])
def test_a_picture_is_dropped_or_pasted(page, kind):
    page.evaluate(HANDED, [kind, "a.png", base64.b64encode(toy.picture(250)).decode()])
    assert answer(page).startswith("bright")


def test_an_error_is_told_in_words_and_the_next_picture_works(page, tmp_path):
    path = tmp_path / "notes.jpg"
    path.write_text("not a picture")
    page.locator("#chosen").set_input_files(path)
    page.get_by_role("alert").wait_for()
    assert "no readable" in page.get_by_role("alert").inner_text()
    shot(page, "error")
    page.get_by_role("button", name="Sample 4").click()
    assert answer(page).startswith("bright")
    assert page.get_by_role("alert").count() == 0


def test_the_card_tells_accuracy_with_its_interval_and_the_limits(page):
    page.get_by_text("About this model").click()
    text = page.locator("#card").inner_text()
    assert "95 % interval" in text
    assert "It names one of its classes whatever a picture shows" in text
    assert re.search(r"Weakest at\s+bright: ", text)
    assert "bright, dark" in text
    shot(page, "card")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_phone_nothing_sticks_out(page, scheme):
    page.set_viewport_size(PHONE)
    page.emulate_media(color_scheme=scheme)
    page.get_by_role("button", name="Sample 3").click()
    answer(page)
    page.get_by_text("About this model").click()
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    shot(page, f"phone-{scheme}")


@pytest.fixture
def spotted() -> dict[str, object]:
    """Dark, with a bright spot at the upper left."""
    image = Image.new("RGB", (320, 240), (60, 60, 60))
    image.paste((255, 255, 255), (50, 10, 150, 110))
    stream = io.BytesIO()
    image.save(stream, format="PNG")
    return {"name": "spot.png", "mimeType": "image/png", "buffer": stream.getvalue()}


@pytest.fixture
def bright_by_a_corner(tmp_path, monkeypatch) -> Iterator[Running]:
    """A service whose model looks at the upper left quarter alone; pictures that people object to are kept."""
    bundle = toy.bundle(tmp_path / "corner", version="v1", threshold=180, corner=True)
    monkeypatch.setenv("TRAINSERVE_HOME", str(tmp_path / "trainserve"))
    with serving(tmp_path, bundle, keep_pictures="true") as service:
        yield service


def test_where_the_model_looked_is_drawn_and_said(browser, bright_by_a_corner, spotted):
    page = browser.new_page()
    page.goto(bright_by_a_corner.url + "/ui")
    page.locator("#chosen").set_input_files(spotted)
    assert answer(page).startswith("bright")
    page.get_by_role("button", name="Where did it look?").click()
    page.get_by_role("img", name="The picture as the model saw it").wait_for()
    said = page.locator("#found").inner_text()
    assert re.fullmatch(r"Mostly at the top left: with a patch there, bright falls from [\d.]+\s% to [\d.]+\s%\.", said)
    looked, ignored = (page.evaluate(COLOUR, place) for place in ([0.25, 0.25], [0.75, 0.75]))
    assert looked[0] > looked[2] + 60  # orange
    assert ignored[0] == ignored[1] == ignored[2]
    shot(page, "map")
    page.set_viewport_size(PHONE)
    shot(page, "map-phone")
    page.close()


COLOUR = """([x, y]) => {
  const map = document.getElementById("map");
  return [...map.getContext("2d").getImageData(x * map.width, y * map.height, 1, 1).data];
}"""


def test_a_map_in_which_nothing_stands_out_says_so_and_the_next_picture_has_none(page):
    page.get_by_role("button", name="Sample 4").click()
    answer(page)
    page.get_by_role("button", name="Where did it look?").click()
    page.get_by_text("No single part matters").wait_for()
    page.get_by_role("button", name="Sample 1").click()
    page.locator("#caption", has_text="Sample 1").wait_for()
    assert not page.locator("#map").is_visible()
    assert page.locator("#found").inner_text() == ""


def test_somebody_who_knows_better_says_so_by_keyboard(browser, bright_by_a_corner, spotted):
    page = browser.new_page()
    page.goto(bright_by_a_corner.url + "/ui")
    page.locator("#chosen").set_input_files(spotted)
    answer(page)
    assert "and the picture with it" in page.locator("#kept").inner_text()
    page.get_by_role("button", name="Where did it look?").focus()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "really"
    page.keyboard.type("dark")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.get_by_role("status").get_by_text("Thank you: noted as dark, with the picture").wait_for()
    shot(page, "feedback")
    folder = bright_by_a_corner.home.parent / "trainserve/feedback"
    (line,) = [json.loads(file.read_text()) for file in folder.glob("*.jsonl")]
    assert (line["model"], line["answered"], line["label"]) == ("toy@v1", "bright", "dark")
    assert (folder / line["picture"]).read_bytes() == spotted["buffer"]
    page.close()


def test_a_wrong_answer_cannot_be_told_without_saying_what_it_is(page):
    page.get_by_role("button", name="Sample 5").click()
    answer(page)
    assert page.get_by_label("This is wrong, it is …").locator("option").all_inner_texts() == ["choose …", "bright"]
    page.get_by_role("button", name="Send").click()
    assert page.evaluate("document.getElementById('really').matches(':invalid')")
    assert page.locator("#thanks").inner_text() == ""


def test_a_phone_offers_its_camera_and_a_desktop_does_not(browser, service, page):
    assert not page.get_by_role("button", name="Take a photograph").is_visible()
    context = browser.new_context(viewport=PHONE, has_touch=True, is_mobile=True)
    phone = context.new_page()
    phone.goto(service.url + "/ui")
    with phone.expect_file_chooser() as chooser:
        phone.get_by_role("button", name="Take a photograph").tap()
    assert chooser.value.element.get_attribute("capture") == "environment"
    chooser.value.set_files({"name": "photo.png", "mimeType": "image/png", "buffer": toy.picture(250)})
    assert answer(phone).startswith("bright")
    phone.mouse.wheel(0, -2000)
    shot(phone, "camera", full_page=False)  # a whole page is taken as on a device that has no fingers
    context.close()


def test_everything_has_a_role_and_a_name_for_who_does_not_see_it(page):
    page.get_by_role("button", name="Sample 4").click()
    answer(page)
    page.get_by_role("button", name="Where did it look?").click()
    page.get_by_text("No single part matters").wait_for()
    tree = page.locator("main").aria_snapshot()
    for line in (
        '- heading "toy" [level=1]',
        '- button "Choose a picture or drop it here, or paste it"',
        'button "Sample 4, which shows: bright" [pressed]',
        '- img "The picture that was classified"',
        '- list "The classes, the most probable first"',
        '- img "The picture as the model saw it, with what speaks for bright"',
        '- combobox "This is wrong, it is …"',
    ):
        assert line in tree, tree


def test_everything_that_can_be_pressed_has_a_name(page):
    for button in page.get_by_role("button").all():
        assert button.inner_text().strip() or button.get_attribute("aria-label")
    assert page.locator("html").get_attribute("lang") == "en"


def test_a_script_that_someone_else_put_in_does_not_run(browser, service):
    page = browser.new_page()
    page.goto(service.url + "/ui")
    with page.expect_console_message(lambda message: "Content Security Policy" in message.text):
        page.evaluate("document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"window.owned = 1\">')")
    assert page.evaluate("window.owned") is None
    page.close()


def test_labels_are_shown_as_text_and_whole_however_many_and_long(page):
    labels = [
        "<img src=x onerror='window.owned = 1'> & </script><b>",
        "hard-leaved pocket orchid, as it flowers in the second week of May, seen from above",
        *(f"class-{i}" for i in range(2, 100)),
    ]
    scores = [{"label": label, "probability": 2.0 ** -(i + 1)} for i, label in enumerate(labels)]
    told = {"request_id": "one", "model": "toy@v1", **scores[0], "scores": scores}
    page.route("**/predict", lambda route: route.fulfill(json=told))
    page.set_viewport_size(PHONE)
    page.get_by_role("button", name="Sample 3").click()
    assert answer(page).startswith(labels[0])
    assert page.evaluate("window.owned") is None
    assert page.locator("#scores li").count() == 10
    assert "and 90 less probable classes" in page.locator("#footnote").inner_text()
    assert page.locator("#really option").count() == 100
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    cut = "[...document.querySelectorAll('#scores span')].filter((one) => one.scrollWidth > one.clientWidth).length"
    assert page.evaluate(cut) == 0
    shot(page, "labels-phone")
    page.set_viewport_size({"width": 1280, "height": 900})
    shot(page, "labels")


@pytest.fixture
def several(home: Path, tmp_path: Path) -> Iterator[Running]:
    """toy@v1 with toy@v2 on trial, and lamps@1."""
    for version in ("v1", "v2", "v3"):
        store.save(toy.bundle(tmp_path / version, version=version))
    store.promote(ModelRef(name="toy", version="v1"), reason="")
    challengers.try_out(ModelRef(name="toy", version="v2"), share=0.1, shadow=False, reason="")
    store.promote(store.save(toy.bundle(tmp_path / "lamps", name="lamps", version="1")), reason="")
    with running(home, model="toy,lamps") as service:
        service.wait("/readyz")
        yield service


def test_of_several_models_each_has_a_page_and_the_card_follows_what_becomes_of_them(browser, several):
    page = browser.new_page()
    page.goto(several.url + "/ui")
    page.get_by_text("version v1").wait_for()
    assert page.get_by_role("link", name="toy").get_attribute("aria-current") == "page"
    page.get_by_text("About this model").click()
    assert re.search(r"On trial\s+toy@v2, canary for 10.0\s% of the requests", page.locator("#card").inner_text())
    shot(page, "several")
    damaged = store.path(ModelRef(name="toy", version="v3")) / "model.onnx"
    damaged.write_bytes(b"x")
    store.promote(ModelRef(name="toy", version="v3"), reason="planted")
    page.locator("#card", has_text="Not in service").get_by_text("toy@v3: ").wait_for()
    page.get_by_role("link", name="lamps").click()
    page.get_by_text("version 1").wait_for()
    page.get_by_role("button", name="Sample 4").click()
    answer(page)
    assert page.locator("#footnote").inner_text().startswith("answered by lamps@1 ")
    page.goto(several.url + "/ui?model=nobody")
    page.get_by_role("status").get_by_text("no model of that name").wait_for()
    page.get_by_role("link", name="toy").wait_for()
    page.close()
