"""The page of a network as text: what is in it, and which networks can be no page. `test_browser.py` runs it."""

import base64
import hashlib
import json
import re
from dataclasses import replace

import numpy as np
import pytest
from xpnn import nn
from xpnn.backends import ConfigError, DataError, DivergenceError
from xpnn.nn.export import page as exported
from xpnn.nn.export import to_html

NAMES = ("</script><script>alert(1)</script>", "<!--<script>", "$script &amp; ${data}", "\N{LINE SEPARATOR}\N{SNOWMAN}")


@pytest.fixture
def net():
    net = nn.MLP([6, 5, 4], activation="leaky_relu", backend="numpy")
    net.inputs = nn.Pixels(count=6, shape=(2, 3), class_names=NAMES)
    return net


@pytest.fixture
def page(net, tmp_path):
    to_html(net, tmp_path / "page.html")
    return (tmp_path / "page.html").read_text(encoding="utf-8")


def data_of(page):
    (text,) = re.findall(r'<script type="application/json" id="network">(.*?)</script>', page)
    return text


def test_all_of_the_network_is_in_it(net, page):
    data = json.loads(data_of(page))
    assert (data["sizes"], data["activation"], data["output"]) == ([6, 5, 4], "leaky_relu", "softmax")
    assert (data["names"], data["largest"], data["image_shape"]) == (list(NAMES), 255, [2, 3])
    assert data["centring"]["box"] == [2, 3]
    for k, layer in enumerate(data["layers"]):
        for part, text in layer.items():
            array = net.parameters()[f"layers.{k}.{part}"]
            assert base64.b64decode(text) == array.astype("<f4").tobytes()


def test_no_name_breaks_out(page):
    assert not re.search("[<>&]", data_of(page))
    assert len(re.findall("<script", page)) == len(re.findall("</script>", page)) == 2


def test_nothing_but_its_own_script_and_style_is_allowed(page):
    (policy,) = re.findall('<meta http-equiv="Content-Security-Policy" content="([^"]*)">', page)
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules.pop("default-src") == rules.pop("base-uri") == rules.pop("form-action") == "'none'"
    assert rules.pop("img-src") == "data:"
    for kind, tag in (("script", "script"), ("style", "style")):
        (text,) = re.findall(f"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert rules.pop(f"{kind}-src") == f"'sha256-{digest}'"
    assert rules == {}
    assert not re.search(r'(src|href|action)="(?!data:)', page)
    assert not re.search(r"url\(|@import|https?://(?!www\.w3\.org/2000/svg)", page.replace(data_of(page), ""))


@pytest.mark.parametrize(
    ("names", "title"),
    [((), "Draw a digit"), (tuple("1234567890"), "Draw a digit"), (tuple("abcdefghij"), "Draw a picture")],
)
def test_title(names, title, tmp_path):
    net = nn.MLP([6, 10], backend="numpy")
    net.inputs = nn.Pixels(count=6, shape=(2, 3), class_names=names)
    to_html(net, tmp_path / "page.html")
    assert f"<title>{title}</title>" in (tmp_path / "page.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("image_shape", "shape"),
    [
        ((28, 28), (280, 280)), ((8, 8), (280, 280)), ((5, 4), (280, 224)), ((28, 56), (140, 280)),
        ((20, 60), (120, 360)), ((300, 300), (600, 600)), ((15, 120), (240, 1024)), ((1, 1), (280, 280)),
    ],
)  # fmt: skip
def test_the_sheet_has_pixels_to_spare(image_shape, shape):
    assert exported.sheet_shape(image_shape) == shape


PIXELS = nn.Pixels(count=6, shape=(2, 3))


@pytest.mark.parametrize(
    ("inputs", "error", "message"),
    [
        (None, DataError, "not trained on images, but on rows of 6 features, which cannot be drawn"),
        (nn.Numbers(count=6), DataError, "not trained on images, but on rows of 6 features, which cannot be drawn"),
        (nn.Table(columns=(nn.Column("a"),)), DataError, "but on a table of 1 columns, which cannot be drawn"),
        (replace(PIXELS, shape=None), DataError, r"images of 6 pixels is not known: train it on data with image_shape"),
        (nn.Pixels(shape=(1, 9)), DataError, "images of 1 x 9 pixels are too narrow to draw"),
        (replace(PIXELS, largest=1000), ConfigError, r"largest must be in \[1, 255\], got 1000"),
        (replace(PIXELS, class_names=("a", "b", "c", "\x07")), ConfigError, r"control characters, got '\\x07'"),
    ],
)
def test_what_can_be_no_page(inputs, error, message, net, tmp_path):
    net.inputs = inputs
    with pytest.raises(error, match=message):
        to_html(net, tmp_path / "page.html")
    assert list(tmp_path.iterdir()) == []


def test_a_page_shows_probabilities(net, tmp_path):
    net.loss = "squared_error"
    with pytest.raises(ConfigError, match=r"a network of loss squared_error has none: export it as \.onnx"):
        to_html(net, tmp_path / "page.html")


def test_images_of_floats_have_a_known_full_ink(tmp_path):
    images = np.random.default_rng(0).random((20, 4, 4))
    data = nn.from_arrays(images, np.arange(20) % 2)
    net = nn.MLP([16, 2], backend="numpy")
    nn.train(net, data, epochs=1, batch_size=10)
    to_html(net, tmp_path / "page.html")
    about = json.loads(data_of((tmp_path / "page.html").read_text(encoding="utf-8")))
    assert (about["largest"], about["input_scale"], about["image_shape"]) == (255, 1 / 255, [4, 4])


def test_too_large_or_not_finite(net, tmp_path, monkeypatch):
    monkeypatch.setattr(exported, "LARGEST", 236)  # 59 weights and biases
    to_html(net, tmp_path / "page.html")
    monkeypatch.setattr(exported, "LARGEST", 235)
    with pytest.raises(ConfigError, match="has 236 bytes of weights, more than the 235 that a page holds"):
        to_html(net, tmp_path / "page.html")
    monkeypatch.undo()
    net.layers[0].bias[1] = np.inf
    with pytest.raises(DivergenceError, match=r"inf in layers\.0\.bias at \[1\]: export the last good one"):
        to_html(net, tmp_path / "page.html")
