"""The page of a network, drawn on in Chromium."""

import json
import shutil

import numpy as np
import pytest
from xpnn import nn
from xpnn.backends import ACTIVATIONS, DataError
from xpnn.nn.export import to_html
from xpnn.nn.export.page import sheet_shape
from xpnn.nn.pictures.digit_images import load_digit

pytest.importorskip("selenium", reason="selenium is not installed")
pytest.importorskip("PIL", reason="Pillow is not installed")
from PIL import Image, ImageDraw
from selenium import webdriver
from selenium.webdriver.common.actions.action_builder import ActionBuilder
from selenium.webdriver.common.actions.pointer_input import PointerInput
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
CHROMEDRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(not (CHROMIUM and CHROMEDRIVER), reason="chromium or chromedriver is not installed")

OPTIONS = (
    "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-dev-shm-usage"
)
FIGURES = {  # strokes of places (x, y), shares of the sheet
    "0": [[(0.5, 0.2), (0.4, 0.26), (0.33, 0.5), (0.4, 0.74), (0.5, 0.8), (0.6, 0.74), (0.67, 0.5), (0.6, 0.26),
           (0.5, 0.2)]],
    "1": [[(0.53, 0.18), (0.48, 0.82)]],
    "3": [[(0.32, 0.25), (0.5, 0.2), (0.65, 0.28), (0.62, 0.4), (0.48, 0.48), (0.64, 0.55), (0.68, 0.68), (0.55, 0.8),
           (0.33, 0.76)]],
    "7": [[(0.3, 0.25), (0.7, 0.25), (0.45, 0.8)]],
}  # fmt: skip


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for option in [*OPTIONS.split(), f"--user-data-dir={tmp_path_factory.mktemp('profile')}"]:
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(CHROMEDRIVER))
    yield driver
    driver.quit()


@pytest.fixture
def page(browser, tmp_path):
    """`page(net)` opens the network's page; afterwards it must have asked for nothing else, and have no complaint."""
    opened = []

    def show(net, *, width=1280, height=900, theme="light", pixels=1):
        sizes = {"width": width, "height": height, "deviceScaleFactor": pixels, "mobile": width < 600}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", sizes)
        set_theme(browser, theme)
        path = tmp_path / f"page-{len(opened)}.html"
        to_html(net, path)
        opened.append(path.as_uri())
        browser.get(opened[-1])
        return browser

    browser.get("about:blank")  # the page for a new tab asks for much
    for kind in ("browser", "performance"):
        browser.get_log(kind)
    yield show
    assert browser.get_log("browser") == []
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [each["params"]["request"]["url"] for each in messages if each["method"] == "Network.requestWillBeSent"]
    assert [url for url in asked if not url.startswith(("data:image/svg+xml,", "about:"))] == opened


def set_theme(browser, theme):
    browser.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": theme}]}
    )


def draw(browser, strokes, kind="mouse"):
    sheet = browser.find_element(By.ID, "sheet").rect
    for places in strokes:
        actions = ActionBuilder(browser, mouse=PointerInput(kind, kind), duration=10)
        for k, (x, y) in enumerate(places):
            actions.pointer_action.move_to_location(
                int(sheet["x"] + x * sheet["width"]), int(sheet["y"] + y * sheet["height"])
            )
            if k == 0:
                actions.pointer_action.pointer_down()
        actions.pointer_action.pointer_up()
        actions.perform()
    settle(browser)


def settle(browser):
    """Until the frame after the next: what was drawn is on the screen."""
    browser.execute_async_script("requestAnimationFrame(() => requestAnimationFrame(arguments[0]))")


def answer(browser):
    return browser.find_element(By.ID, "best").text


def is_empty(browser):
    return browser.execute_script("return xpnn.centre(xpnn.drawing())") is None


@pytest.fixture(scope="module")
def trained(request):
    """`trained(name)`: a network for MNIST, or for the 8x8 digits, and the data."""
    made = {}

    def train(name):
        if name not in made:
            data = nn.load_dataset("digits") if name == "digits" else request.getfixturevalue("mnist")
            net = nn.MLP([data.features, 64, 10], backend="numpy")
            epochs, batch_size = (40, 32) if name == "digits" else (3, 128)
            nn.train(net, data, optimizer=nn.Adam(3e-3), epochs=epochs, batch_size=batch_size)
            made[name] = net, data
        return made[name]

    return train


@pytest.mark.parametrize("name", ["mnist", "digits"])
def test_the_page_s_probabilities_are_ours(name, trained, page):
    net, data = trained(name)
    browser, images = page(net), data.test.images[:20]
    theirs = browser.execute_script("return arguments[0].map(xpnn.predict)", images.tolist())
    np.testing.assert_allclose(theirs, net.predict_proba(images), atol=1e-5)
    assert np.mean(np.argmax(theirs, axis=1) == data.test.labels[:20]) > 0.8


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation(activation, dtype, page):
    net = nn.MLP([15, 9, 7, 4], activation=activation, dtype=dtype, backend="numpy", seed=4)
    net.inputs = nn.Pixels(count=15, shape=(3, 5))
    images = np.random.default_rng(0).integers(0, 256, (10, 15)).astype(np.uint8)
    browser = page(net)
    np.testing.assert_allclose(
        browser.execute_script("return arguments[0].map(xpnn.predict)", images.tolist()),
        net.predict_proba(images),
        atol=1e-6 if dtype == "float32" else 1e-14,
    )
    layers = browser.execute_script("return xpnn.layers(arguments[0])", images[0].tolist())
    assert [len(layer) for layer in layers] == [9, 7, 4]
    np.testing.assert_allclose(layers[-1], net.logits(images[:1])[0], atol=1e-5)


def test_classes_that_do_not_exclude_each_other(page):
    net = nn.MLP([16, 3], loss="sigmoid_cross_entropy", backend="numpy")
    net.inputs = nn.Pixels(count=16, shape=(4, 4), class_names=("red", "green", "blue"))
    net.load_parameters({"layers.0.weight": np.zeros((16, 3)), "layers.0.bias": np.array([2.0, -2.0, 1.0])})
    browser = page(net)
    images = np.zeros((1, 16), dtype=np.uint8)
    np.testing.assert_allclose(
        browser.execute_script("return xpnn.predict(arguments[0])", images[0].tolist()), net.predict_proba(images)[0]
    )
    draw(browser, FIGURES["1"])
    assert answer(browser) == "red, blue"


@pytest.mark.parametrize("kind", ["mouse", "touch"])
@pytest.mark.parametrize("figure", FIGURES)
@pytest.mark.parametrize("name", ["mnist", "digits"])
def test_a_drawn_figure_is_recognised(name, figure, kind, trained, page):
    browser = page(trained(name)[0])
    assert answer(browser) == "?"
    draw(browser, FIGURES[figure], kind)
    assert answer(browser) == figure
    best = browser.find_element(By.CSS_SELECTOR, ".bar.best")
    name, value = best.text.split("\n")
    assert name == figure
    assert f"{figure} {value} sure" == browser.find_element(By.ID, "said").get_attribute("textContent")
    levels = browser.execute_script("return xpnn.predict(xpnn.centre(xpnn.drawing()))")
    assert f"{100 * max(levels):.1f} %" == value


def scribble(shape, width, seed):
    """A random figure of light ink on black, with a speck of dust: (rows, columns)."""
    generator = np.random.default_rng(seed)
    rows, columns = shape
    big = Image.new("L", (columns * 4, rows * 4), 0)
    places = generator.uniform(0.2, 0.8, (int(generator.integers(2, 7)), 2)) * np.array(big.size)
    pen = ImageDraw.Draw(big)
    pen.line([tuple(place) for place in places], fill=255, width=round(4 * width), joint="curve")
    pen.ellipse((8, 8, 8 + 3 * width, 8 + 3 * width), fill=255)
    return np.asarray(big.resize((columns, rows), Image.Resampling.BOX))


@pytest.mark.parametrize("image_shape", [(28, 28), (8, 8), (20, 12), (7, 18), (3, 21), (100, 100)])
def test_a_drawing_is_centred_as_a_picture_by_predict(image_shape, page, tmp_path):
    net = nn.MLP([image_shape[0] * image_shape[1], 2], backend="numpy")
    largest = 16 if image_shape == (8, 8) else 255
    net.inputs = nn.Pixels(largest=largest, shape=image_shape)
    browser, (rows, columns) = page(net), sheet_shape(image_shape)
    for seed, width in enumerate((3, 8, 14, 22, 30, 45)):
        levels = scribble((rows, columns), width, seed)
        Image.fromarray(levels).save(tmp_path / "drawing.png")
        expected = load_digit(tmp_path / "drawing.png", image_shape=image_shape, largest=largest)
        drawing = {"data": levels.reshape(-1).tolist(), "rows": rows, "columns": columns}
        centred = np.array(browser.execute_script("return xpnn.centre(arguments[0])", drawing))
        assert np.abs(centred - expected.astype(int)).max() <= 1  # a rounding the other way
        assert (centred == expected).mean() > 0.98


def test_what_is_drawn_is_what_is_centred(trained, page, tmp_path):
    """The canvas gives the network light ink on black, whatever the theme."""
    net, _ = trained("digits")
    seen = []
    for theme in ("light", "dark"):
        browser = page(net, theme=theme, pixels=2)
        draw(browser, FIGURES["3"])
        drawing = browser.execute_script("const d = xpnn.drawing(); return [Array.from(d.data), d.rows, d.columns]")
        levels = np.array(drawing[0]).reshape(drawing[1:]).astype(np.uint8)
        assert (levels.max(), np.median(levels)) == (255, 0)
        Image.fromarray(levels).save(tmp_path / "drawing.png")
        expected = load_digit(tmp_path / "drawing.png", image_shape=(8, 8), largest=16)
        seen.append(browser.execute_script("return xpnn.centre(xpnn.drawing())"))
        assert np.abs(np.array(seen[-1]) - expected.astype(int)).max() <= 1
    assert seen[0] == seen[1]


def test_clear_undo_and_the_keyboard(trained, page):
    browser = page(trained("digits")[0])
    clear, undo, sheet = (browser.find_element(By.ID, name) for name in ("clear", "undo", "sheet"))
    assert not clear.is_enabled()
    draw(browser, [*FIGURES["1"], *FIGURES["7"]])
    assert clear.is_enabled()
    undo.click()
    settle(browser)
    assert answer(browser) == "1"
    clear.click()
    settle(browser)
    assert answer(browser) == "?"
    assert is_empty(browser)
    assert not clear.is_enabled()
    sheet.send_keys(Keys.ARROW_UP * 4, Keys.SPACE, Keys.ARROW_DOWN * 8, Keys.SPACE, Keys.ARROW_LEFT * 3)
    settle(browser)
    assert answer(browser) == "1"
    sheet.send_keys(Keys.ESCAPE)
    settle(browser)
    assert is_empty(browser)
    sheet.send_keys(Keys.SPACE, Keys.ARROW_DOWN, Keys.BACKSPACE, Keys.ARROW_DOWN)
    settle(browser)
    assert is_empty(browser)


@pytest.mark.parametrize("level", [0, 5, 12])
def test_what_predict_finds_no_ink_in(level, page, trained, tmp_path):
    browser = page(trained("digits")[0])
    levels = np.zeros((40, 40), dtype=np.uint8)
    levels[10:30, 20] = level
    Image.fromarray(levels).save(tmp_path / "drawing.png")
    with pytest.raises(DataError, match="no ink found"):
        load_digit(tmp_path / "drawing.png", image_shape=(8, 8), largest=16)
    drawing = {"data": levels.reshape(-1).tolist(), "rows": 40, "columns": 40}
    assert browser.execute_script("return xpnn.centre(arguments[0])", drawing) is None


def test_units_show_their_weights(page):
    net = nn.MLP([9, 2], backend="numpy")
    net.inputs = nn.Pixels(count=9, shape=(3, 3))
    weight = np.zeros((9, 2))
    weight[4, 1], weight[0, 1] = 2.0, -2.0
    net.load_parameters({"layers.0.weight": weight, "layers.0.bias": np.array([0.5, -0.25])})
    browser = page(net)
    draw(browser, FIGURES["1"])
    cells = browser.find_elements(By.CSS_SELECTOR, "#layers canvas")[-1]
    cells.send_keys(Keys.ARROW_RIGHT)
    assert browser.find_element(By.ID, "unit").text == "Logit of 1"
    logits = browser.execute_script("return xpnn.layers(xpnn.centre(xpnn.drawing()))")[-1]
    assert browser.find_element(By.ID, "activation").text == f"{logits[1]:.3f}, weights:"
    pixels, width, height = browser.execute_script(
        "const c = document.getElementById('weights');"
        "const { data } = c.getContext('2d').getImageData(0, 0, c.width, c.height);"
        "return [Array.from(data), c.width, c.height]"
    )
    shown = np.array(pixels).reshape(height, width, 4)[height // 6 :: height // 3, width // 6 :: width // 3]
    assert shown[1, 1].tolist() == [0, 104, 163, 255]  # the positive weight
    assert shown[0, 0].tolist() == [205, 88, 0, 255]  # the negative one
    assert shown[2, 2].tolist() == [236, 239, 243, 255]  # none


HOSTILE = (
    "</script><script>window.broken = 1</script>", "<img src=x onerror='window.broken = 1'>", "a" * 5000, "$data",
    "\N{LINE SEPARATOR}';window.broken=1;'", "&lt;b&gt;", "many words " * 50, "\N{SNOWMAN}",
)  # fmt: skip


@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("hidden", [[], [700, 3, 5000]])
def test_nothing_overflows_and_no_name_is_html(hidden, width, page):
    net = nn.MLP([24 * 9, *hidden, 8], backend="numpy")
    net.inputs = nn.Pixels(count=24 * 9, shape=(24, 9), class_names=HOSTILE)
    last = net.layers[-1]
    last.weight[:], last.bias[:] = 0, np.arange(8) == 2
    browser = page(net, width=width, pixels=2)
    draw(browser, FIGURES["7"])
    assert answer(browser) == HOSTILE[2]  # the longest word
    assert browser.find_element(By.CSS_SELECTOR, ".verdict").size["height"] < 200
    assert browser.execute_script("return window.broken") is None
    names = [each.get_attribute("textContent") for each in browser.find_elements(By.CSS_SELECTOR, ".bar .name")]
    assert tuple(names) == HOSTILE
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    rights = browser.execute_script(
        "return [...document.querySelectorAll('body *')].map(e => e.getBoundingClientRect().right)"
    )
    assert max(rights) <= width


def test_of_many_classes_the_most_probable_comes_first(page):
    net = nn.MLP([64, 30], backend="numpy")
    net.inputs = nn.Pixels(count=64, shape=(8, 8))
    net.layers[0].weight[:], net.layers[0].bias[:] = 0, np.arange(30) % 17
    browser = page(net)
    draw(browser, FIGURES["1"])
    rows = browser.find_elements(By.CSS_SELECTOR, ".bar")
    first = sorted(rows, key=lambda row: row.rect["y"])[:3]
    assert [row.find_element(By.CLASS_NAME, "name").text for row in first] == ["16", "15", "14"]


@pytest.mark.parametrize("image_shape", [(24, 9), (9, 24), (60, 8)])
def test_the_sheet_is_seen_whole_and_undistorted(image_shape, page):
    net = nn.MLP([image_shape[0] * image_shape[1], 2], backend="numpy")
    net.inputs = nn.Pixels(shape=image_shape)
    browser, (rows, columns) = page(net, height=700), sheet_shape(image_shape)
    size = browser.find_element(By.ID, "sheet").size
    assert size["height"] <= 0.7 * 700 + 1
    assert size["width"] / size["height"] == pytest.approx(columns / rows, rel=0.02)


def test_themes(trained, page):
    colours = {}
    for theme in ("light", "dark"):
        browser = page(trained("digits")[0], theme=theme)
        draw(browser, FIGURES["1"])
        colours[theme] = browser.execute_script(
            "const s = getComputedStyle(document.body), c = document.getElementById('sheet');"
            "const ink = c.getContext('2d').getImageData(c.width / 2, c.height / 2, 1, 1).data;"
            "return [s.backgroundColor, s.color, Array.from(ink)]"
        )
    assert colours["light"] == ["rgb(243, 244, 246)", "rgb(28, 33, 40)", [28, 33, 40, 255]]
    assert colours["dark"] == ["rgb(14, 17, 22)", "rgb(232, 235, 239)", [242, 244, 247, 255]]


def test_the_policy_forbids_what_is_not_the_page_s_own(browser, trained, tmp_path):
    to_html(trained("digits")[0], tmp_path / "page.html")
    browser.get((tmp_path / "page.html").as_uri())
    refused = browser.execute_async_script(
        """
        const refused = [], done = arguments[0];
        document.addEventListener("securitypolicyviolation", (event) => {
          if (refused.push(event.effectiveDirective) === 4) done(refused);
        });
        fetch("http://127.0.0.1:9/").catch(() => {});
        new Image().src = "http://127.0.0.1:9/picture.png";
        const script = document.createElement("script");
        script.textContent = "window.broken = 1";
        document.body.append(script);
        document.body.insertAdjacentHTML("beforeend", "<p onclick='window.broken = 1'></p>");
        document.body.lastElementChild.click();
        """
    )
    assert set(refused) == {"connect-src", "img-src", "script-src-elem", "script-src-attr"}
    assert browser.execute_script("return window.broken") is None


@pytest.mark.parametrize("pixels", [[1] * 63, ["a"] * 64])
def test_wrong_pixels(pixels, page, trained):
    browser = page(trained("digits")[0])
    said = browser.execute_script("try { xpnn.predict(arguments[0]) } catch (e) { return e.message }", pixels)
    assert said == ("pixels must be 64 numbers, got 63" if len(pixels) == 63 else "pixels must be finite numbers")
