"""Pictures of digits from anywhere, made into rows like those of the training data."""

import gzip
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from xpnn.backends import ConfigError, DataError, MissingDependency
from xpnn.nn.files import limits
from xpnn.nn.pictures.digit_images import load_digit, scale_to

pytest.importorskip("PIL", reason="Pillow is not installed")
from PIL import Image, ImageDraw

MNIST_SHAPE = (28, 28)
MNIST = Path(os.environ.get("XPNN_DATA", "missing")) / "mnist" / "t10k-images-idx3-ubyte.gz"


@pytest.fixture(scope="module")
def mnist_rows():
    """(50, 784), every two-hundredth test row of MNIST."""
    if not MNIST.is_file():
        pytest.skip("MNIST's test images are not at $XPNN_DATA/mnist")
    with gzip.open(MNIST) as file:
        return np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 784)[::200]


def saved(picture, folder, name="digit.png", **options):
    if isinstance(picture, np.ndarray):
        picture = Image.fromarray(picture)
    picture.save(folder / name, **options)
    return folder / name


def seven(size=(200, 300), *, ink=0, paper=255, mode="L", width=14, offset=(0, 0)):
    """A 7, 80 pixels wide and 120 high, on a sheet of (height, width), smooth at the edges."""
    big = Image.new("L", (size[1] * 4, size[0] * 4), 0)
    x, y = 100 + offset[0], 40 + offset[1]
    line = [(4 * a, 4 * b) for a, b in ((x, y), (x + 80, y), (x + 30, y + 120))]
    ImageDraw.Draw(big).line(line, fill=255, width=4 * width, joint="curve")
    stroke = big.resize((size[1], size[0]), Image.Resampling.BOX)
    return Image.composite(Image.new(mode, stroke.size, ink), Image.new(mode, stroke.size, paper), stroke)


def load(path, shape=MNIST_SHAPE, **options):
    return load_digit(path, image_shape=shape, **options).reshape(shape)


def extent(frame):
    """First and last row, first and last column with ink."""
    rows, columns = np.flatnonzero(frame.any(axis=1)), np.flatnonzero(frame.any(axis=0))
    return rows[0], rows[-1], columns[0], columns[-1]


def centre(frame):
    levels = frame.astype(float)
    return tuple((levels.sum(axis=1 - axis) * np.arange(frame.shape[axis])).sum() / levels.sum() for axis in (0, 1))


def likeness(first, second):
    return np.corrcoef(first.reshape(-1).astype(float), second.reshape(-1).astype(float))[0, 1]


@pytest.fixture
def reference(tmp_path):
    """What a clean black 7 on white becomes."""
    return load(saved(seven(), tmp_path, "reference.png"))


class TestTheFrame:
    def test_made_as_mnist_was(self, reference):
        top, bottom, left, right = extent(reference)
        assert (bottom - top + 1, right - left + 1) == (20, 13)
        above, below, before, after = extent(np.asarray(seven()) < 192)
        assert (after - before + 1) / (below - above + 1) == pytest.approx(13 / 20, abs=0.5 / 20)  # its proportions
        assert reference.dtype == np.uint8
        assert reference.max() == 255
        assert np.abs(np.array(centre(reference)) - 14).max() <= 0.5

    def test_pixels_of_the_strokes(self, reference):
        top, _, left, right = extent(reference)
        assert (reference[top, left + 1 : right - 1] > 200).all()  # the bar of the 7
        assert (reference[top + 8 :, left : left + 2] == 0).all()  # nothing below its left end
        assert ((reference > 0) & (reference < 250)).sum() > 20  # grey edges are kept

    def test_place_in_the_picture_does_not_matter(self, reference, tmp_path):
        moved = load(saved(seven(offset=(60, 30)), tmp_path))
        np.testing.assert_allclose(moved, reference.astype(int), atol=2)

    @pytest.mark.parametrize(
        ("shape", "height"),
        [((28, 28), 20), ((16, 16), 11), ((8, 8), 8), ((15, 15), 15)],
    )
    def test_content_box(self, shape, height, tmp_path):
        frame = load(saved(seven(), tmp_path), shape)
        top, bottom, *_ = extent(frame)
        assert bottom - top + 1 == height

    def test_wide_ink_fits_by_its_width(self, tmp_path):
        sheet = Image.new("L", (200, 100), "white")
        ImageDraw.Draw(sheet).rectangle((20, 40, 179, 55), fill="black")  # 160 by 16 pixels
        frame = load(saved(sheet, tmp_path))
        expected = np.zeros(MNIST_SHAPE)
        expected[13:15, 4:24] = 255
        np.testing.assert_allclose(frame, expected, atol=1)

    def test_centre_of_mass_stays_inside_the_frame(self, tmp_path):
        sheet = Image.new("L", (200, 200), "black")
        draw = ImageDraw.Draw(sheet)
        draw.rectangle((20, 20, 59, 179), fill="white")  # heavy on the left
        draw.rectangle((60, 90, 179, 109), fill="white")
        frame = load(saved(sheet, tmp_path), (15, 15))
        assert extent(frame) == (0, 14, 0, 14)

    def test_largest_value(self, reference, tmp_path):
        frame = load(saved(seven(), tmp_path), largest=16)
        assert frame.max() == 16
        np.testing.assert_array_equal(frame, np.rint(reference * (16 / 255)))

    def test_small_pictures_are_enlarged(self, reference, tmp_path):
        small = seven(width=20).crop((70, 10, 220, 190)).resize((15, 18), Image.Resampling.BOX)
        frame = load(saved(small, tmp_path))
        top, bottom, *_ = extent(frame)
        assert bottom - top + 1 == 20
        assert likeness(frame, reference) > 0.85

    def test_thin_strokes_are_broadened(self, reference, tmp_path):
        frame = load(saved(seven(width=2), tmp_path))
        top, bottom, *_ = extent(frame)
        assert bottom - top + 1 == 20
        assert frame.sum() > 0.7 * reference.sum()
        assert likeness(frame, reference) > 0.8

    def test_broad_strokes_stay(self, tmp_path):
        sheet = Image.new("L", (200, 200), "white")
        ImageDraw.Draw(sheet).rectangle((90, 20, 109, 179), fill="black")  # 20 by 160: 2.5 by 20 in the frame
        frame = load(saved(sheet, tmp_path))
        assert frame.sum() / 255 == pytest.approx(2 * 20, abs=1)  # rounded to two whole columns


class TestExactShape:
    def test_comes_out_unchanged(self, tmp_path):
        rng = np.random.default_rng(0)
        frame = np.zeros(MNIST_SHAPE, dtype=np.uint8)
        frame[2:20, 1:9] = rng.integers(0, 256, (18, 8))  # neither centred nor of 20 pixels
        np.testing.assert_array_equal(load(saved(frame, tmp_path)), frame)
        colour = Image.fromarray(frame).convert("RGB")
        np.testing.assert_array_equal(load(saved(colour, tmp_path)), frame)

    def test_a_garment_over_the_border_comes_out_unchanged(self, tmp_path):
        frame = np.full(MNIST_SHAPE, 200, dtype=np.uint8)
        frame[:4, :4] = frame[:4, -4:] = frame[-4:, :4] = 0
        np.testing.assert_array_equal(load(saved(frame, tmp_path)), frame)

    def test_eight_by_eight_in_either_units(self, tmp_path):
        frame = np.random.default_rng(0).integers(0, 17, (8, 8)).astype(np.uint8)
        frame[:, [0, -1]] = 0
        np.testing.assert_array_equal(load(saved(frame, tmp_path), (8, 8), largest=16), frame)
        bright = np.rint(frame * (255 / 16)).astype(np.uint8)
        np.testing.assert_array_equal(load(saved(bright, tmp_path), (8, 8), largest=16), frame)

    def test_sixteen_bits(self, tmp_path):
        frame = np.zeros(MNIST_SHAPE, dtype=np.uint8)
        frame[5:20, 8:18] = np.arange(150).reshape(15, 10) + 100
        wide = frame.astype(np.uint16) * 257
        np.testing.assert_array_equal(load(saved(wide, tmp_path)), frame)

    @pytest.mark.parametrize(
        ("dtype", "name"),
        [("uint16", "digit.png"), (">u2", "digit.tiff"), ("int32", "digit.tiff"), ("float32", "digit.tiff")],
    )
    @pytest.mark.parametrize("full", [1, 16, 255, 1023, 4095, 16383, 65535, 10**6])
    def test_wide_numbers_are_read_by_their_range(self, dtype, name, full, tmp_path):
        """Bytes in a 16-bit file, which would be black by its type, a camera's 12 bits, a mask of zeros and ones."""
        if full > np.iinfo(np.uint16).max and np.dtype(dtype).itemsize == 2:
            pytest.skip("beyond 16 bits")
        frame = np.zeros(MNIST_SHAPE, dtype=dtype)
        frame[5:20, 8:18] = full
        frame[10, 10] = full // 4
        expected = np.rint(frame.astype(float) * (255 / (255 if full == 16 else full)))
        np.testing.assert_array_equal(load(saved(frame, tmp_path, name)), expected)

    @pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGB", "RGBA", "I;16", "I", "F"])
    def test_no_mode_is_black(self, mode, tmp_path):
        frame = np.zeros(MNIST_SHAPE, dtype=np.uint8)
        frame[4:24, 12:16] = 255
        picture = Image.fromarray(frame).convert("I" if mode == "I;16" else mode)
        path = saved(picture.convert(mode), tmp_path, "digit.tiff" if mode in ("I", "F") else "digit.png")
        with Image.open(path) as opened:
            assert opened.mode == mode
        np.testing.assert_array_equal(load(path), frame)

    @pytest.mark.parametrize(("ink", "full"), [(255, 255), (0, 255), (1, 1)])
    def test_ink_that_is_in_the_transparency_alone(self, ink, full, tmp_path):
        frame = np.zeros((*MNIST_SHAPE, 4), dtype=np.uint8)
        frame[..., :3] = ink
        frame[4:24, 12:16, 3] = full
        if full == 1:
            with pytest.raises(DataError, match="no ink found"):  # nearly transparent all over
                load(saved(frame, tmp_path))
        else:
            np.testing.assert_array_equal(load(saved(frame, tmp_path)), frame[..., 3])

    @pytest.mark.parametrize("levels", [(0, 1), (0, 11), (100, 104)])
    def test_what_is_too_faint_is_refused(self, levels, tmp_path):
        frame = np.full(MNIST_SHAPE, levels[0], dtype=np.uint8)
        frame[4:24, 12:16] = levels[1]
        with pytest.raises(DataError, match=r"no ink found in .*digit\.png: it is uniform or too faint; give"):
            load(saved(frame, tmp_path))

    def test_dark_on_light_is_inverted(self, tmp_path):
        frame = np.zeros(MNIST_SHAPE, dtype=np.uint8)
        frame[4:24, 12:16] = 255
        np.testing.assert_array_equal(load(saved(255 - frame, tmp_path)), frame)


class TestKindsOfPictures:
    @pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "CMYK", "LAB", "I", "F"])
    def test_modes(self, mode, reference, tmp_path):
        picture = seven()
        if mode == "LAB":
            picture = Image.merge("LAB", [picture, *[Image.new("L", picture.size, 128)] * 2])
        else:
            picture = picture.convert(mode)
        frame = load(saved(picture, tmp_path, "digit.tiff"))
        assert likeness(frame, reference) > 0.99

    def test_light_on_dark(self, reference, tmp_path):
        frame = load(saved(seven(ink=255, paper=0), tmp_path))
        np.testing.assert_allclose(frame, reference.astype(int), atol=2)

    @pytest.mark.parametrize(("ink", "paper"), [(60, 110), (200, 150), (230, 90)])
    def test_faint_ink_on_grey(self, ink, paper, reference, tmp_path):
        assert likeness(load(saved(seven(ink=ink, paper=paper), tmp_path)), reference) > 0.99

    def test_coloured_ink(self, reference, tmp_path):
        frame = load(saved(seven(ink=(20, 40, 200), paper=(250, 240, 200), mode="RGB"), tmp_path))
        assert likeness(frame, reference) > 0.99

    @pytest.mark.parametrize("ink", [(0, 0, 0, 255), (255, 255, 255, 255)])
    def test_transparent_paper(self, ink, reference, tmp_path):
        frame = load(saved(seven(ink=ink, paper=(*ink[:3], 0), mode="RGBA"), tmp_path))
        assert likeness(frame, reference) > 0.99

    def test_transparent_palette(self, reference, tmp_path):
        picture = seven().convert("P")
        picture = picture.point(lambda value: 255 if value > 127 else 0)
        frame = load(saved(picture, tmp_path, transparency=255))
        assert likeness(frame, reference) > 0.98

    def test_sixteen_bits(self, reference, tmp_path):
        wide = np.asarray(seven()).astype(np.uint16) * 200 + 1000
        assert likeness(load(saved(wide, tmp_path)), reference) > 0.99

    def test_numbers_that_are_none(self, reference, tmp_path):
        levels = np.asarray(seven(), dtype=np.float32) / 255
        levels[0, 0] = np.nan
        assert likeness(load(saved(levels, tmp_path, "digit.tiff")), reference) > 0.99

    def test_turned_by_its_camera(self, reference, tmp_path):
        exif = Image.Exif()
        exif[0x0112] = 6  # "turn a quarter clockwise to see it upright"
        path = saved(seven().transpose(Image.Transpose.ROTATE_90), tmp_path, "digit.jpg", exif=exif, quality=95)
        assert likeness(load(path), reference) > 0.98

    def test_photograph(self, reference, tmp_path):
        rng = np.random.default_rng(0)
        stroke = 1 - np.asarray(seven(), dtype=float) / 255  # (200, 300)
        y, x = np.mgrid[-1:1:200j, -1:1:300j]
        light = 180 + 40 * x - 25 * y - 20 * (x * x + y * y)  # a lamp from one side, darker corners
        photo = light * (1 - 0.6 * stroke) + rng.normal(0, 8, stroke.shape)
        path = saved(photo.clip(0, 255).astype(np.uint8), tmp_path, "digit.jpg", quality=70)
        frame = load(path)
        assert likeness(frame, reference) > 0.98
        top, bottom, left, right = extent(frame)
        assert frame[:top].max(initial=0) == 0  # no noise around it
        assert (bottom - top + 1, right - left + 1) == (20, 13)

    def test_specks_are_no_ink(self, reference, tmp_path):
        sheet = np.asarray(seven()).copy()
        sheet[np.random.default_rng(0).random(sheet.shape) < 0.01] = 0
        sheet[5:9, 5:9] = 0  # a crumb in the corner
        frame = load(saved(sheet, tmp_path))
        contents = []
        for picture in (frame, reference):  # compared without their frames: specks on the ink may shift it by a pixel
            top, bottom, left, right = extent(picture)
            contents.append(picture[top : bottom + 1, left : right + 1])
        assert contents[0].shape == contents[1].shape == (20, 13)
        assert likeness(*contents) > 0.97

    def test_ink_that_touches_the_border(self, reference, tmp_path):
        frame = load(saved(seven().crop((93, 33, 187, 167)), tmp_path))
        assert likeness(frame, reference) > 0.97

    def test_large_pictures(self, reference, tmp_path):
        frame = load(saved(seven().resize((2400, 1600)), tmp_path))
        assert likeness(frame, reference) > 0.99


class TestMnist:
    def test_test_images_come_out_unchanged(self, mnist_rows, tmp_path):
        for row in mnist_rows:
            path = saved(row.reshape(28, 28), tmp_path)
            np.testing.assert_array_equal(load_digit(path, image_shape=MNIST_SHAPE), row)

    def test_mangled_images_come_back(self, mnist_rows, tmp_path):
        rng = np.random.default_rng(0)
        likenesses, differences = [], []
        for row in mnist_rows:
            side = int(rng.integers(90, 190))
            digit = Image.fromarray(row.reshape(28, 28)).resize((side, side), Image.Resampling.BICUBIC)
            sheet = np.zeros((200, 300))
            top, left = rng.integers(0, 200 - side), rng.integers(0, 300 - side)
            sheet[top : top + side, left : left + side] = digit
            sheet = 255 - sheet + rng.normal(0, 8, sheet.shape)
            path = saved(sheet.clip(0, 255).astype(np.uint8), tmp_path)
            loaded = load_digit(path, image_shape=MNIST_SHAPE)
            likenesses.append(likeness(loaded, row))
            differences.append(np.abs(loaded - row.astype(float)).mean())
        assert np.mean(likenesses) > 0.93
        assert np.mean(differences) < 10  # of 255 levels

    def test_inverted_images_come_back(self, mnist_rows, tmp_path):
        likenesses = [
            likeness(load(saved(255 - row.reshape(28, 28), tmp_path)), row.reshape(28, 28)) for row in mnist_rows
        ]
        assert np.mean(likenesses) > 0.98


class TestRefusals:
    def test_missing(self, tmp_path):
        with pytest.raises(DataError, match=r"digit\.png cannot be read \(No such file or directory\)"):
            load(tmp_path / "digit.png")
        with pytest.raises(DataError, match=r"cannot be read \(it is a folder\)"):
            load(tmp_path)

    def test_empty_file(self, tmp_path):
        (tmp_path / "digit.png").touch()
        with pytest.raises(DataError, match=r"is empty \(0 bytes\)"):
            load(tmp_path / "digit.png")

    def test_no_image(self, tmp_path):
        (tmp_path / "digit.png").write_text("seven", encoding="utf-8")
        with pytest.raises(DataError, match="is no image in a supported format; give one of PNG, JPEG, GIF"):
            load(tmp_path / "digit.png")

    def test_broken_image(self, tmp_path):
        noise = np.random.default_rng(0).integers(0, 256, (100, 100)).astype(np.uint8)
        path = saved(noise, tmp_path)
        path.write_bytes(path.read_bytes()[:4000])
        with pytest.raises(DataError, match="is a damaged image"):
            load(path)

    def test_a_format_that_runs_programs_is_not_read(self, tmp_path, monkeypatch):
        """Pillow hands EPS, under whatever name, to Ghostscript."""
        saved(seven(mode="RGB"), tmp_path, "digit.eps")
        path = (tmp_path / "digit.eps").rename(tmp_path / "digit.png")
        monkeypatch.setattr("subprocess.check_call", lambda *_, **__: pytest.fail("a program was started"))
        with pytest.raises(DataError, match="is no image in a supported format; give one of PNG"):
            load(path)

    @pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "PPM", "TIFF", "WEBP"])
    def test_every_truncation(self, kind, tmp_path):
        """Some formats end in bytes that say nothing; without them the digit is the same."""
        content = saved(seven((60, 90), width=5, offset=(-80, -30)), tmp_path, "whole", format=kind).read_bytes()
        whole, refused = load(tmp_path / "whole"), 0
        for length in range(0, len(content), 1 + len(content) // 60):
            (tmp_path / "cut").write_bytes(content[:length])
            try:
                frame = load(tmp_path / "cut")
            except DataError:
                refused += 1
            else:
                np.testing.assert_array_equal(frame, whole)
        assert refused > 40

    def test_too_many_bytes(self, tmp_path, monkeypatch):
        path = saved(seven(), tmp_path)
        monkeypatch.setattr(limits, "PICTURE_BYTES", path.stat().st_size)
        assert load(path).max() == 255
        monkeypatch.setattr(limits, "PICTURE_BYTES", path.stat().st_size - 1)
        with pytest.raises(DataError, match=r"has \d+ bytes, more than the limit of \d+; scale the image down"):
            load(path)

    def test_no_pixels(self, tmp_path, monkeypatch):
        path = saved(seven(), tmp_path)
        monkeypatch.setattr(Image, "open", lambda _, formats: Image.new("L", (0, 5)))  # noqa: ARG005
        with pytest.raises(DataError, match=r"has no pixels \(0x5\)"):
            load(path)

    @pytest.mark.parametrize("level", [0, 128, 255])
    @pytest.mark.parametrize("size", [(28, 28), (200, 300)])
    def test_uniform(self, level, size, tmp_path):
        with pytest.raises(DataError, match="no ink found"):
            load(saved(np.full(size, level, dtype=np.uint8), tmp_path))

    def test_blank_paper(self, tmp_path):
        y, x = np.mgrid[-1:1:200j, -1:1:300j]
        paper = 200 + 30 * x + 20 * y + np.random.default_rng(0).normal(0, 6, x.shape)
        with pytest.raises(DataError, match="no ink found"):
            load(saved(paper.clip(0, 255).astype(np.uint8), tmp_path))

    def test_specks_alone(self, tmp_path):
        rng = np.random.default_rng(20)
        specks = (rng.random((108, 107)) < rng.random() ** 3) * rng.integers(1, 256)
        with pytest.raises(DataError, match="no ink found"):
            load(saved(specks.astype(np.uint8), tmp_path), (8, 8))

    def test_noise_is_refused_or_a_proper_row(self, tmp_path):
        rng = np.random.default_rng(0)
        rows = 0
        for _ in range(200):
            noise = rng.normal(128, rng.uniform(0, 60), rng.integers(1, 40, 2)).clip(0, 255).astype(np.uint8)
            try:
                frame = load(saved(noise, tmp_path), (8, 8))
            except DataError as error:
                assert "no ink found" in str(error)  # noqa: PT017 - either outcome is right
            else:
                rows += 1
                assert frame.max() == 255
        assert rows < 100

    def test_transparent_nothing(self, tmp_path):
        with pytest.raises(DataError, match="no ink found"):
            load(saved(Image.new("RGBA", (50, 50), (0, 0, 0, 0)), tmp_path))

    def test_too_many_pixels(self, tmp_path, monkeypatch):
        path = saved(seven(), tmp_path)  # 60,000 pixels
        monkeypatch.setattr(limits, "PICTURE_PIXELS", 59_999)
        with pytest.raises(DataError, match=r"has more than 59999 pixels; scale the image down"):
            load(path)

    @pytest.mark.parametrize("limit", [40_000, 20_000])  # Pillow warns above it and raises above twice as many
    def test_decompression_bomb(self, limit, tmp_path, monkeypatch):
        path = saved(seven(), tmp_path)
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        with pytest.raises(DataError, match="pixels; scale the image down"):
            load(path)

    def test_missing_pillow(self, tmp_path, monkeypatch):
        path = saved(seven(), tmp_path)
        monkeypatch.setitem(sys.modules, "PIL", None)
        with pytest.raises(MissingDependency, match=r'pip install "xpnn\[cli\]"'):
            load(path)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"image_shape": (0, 28)}, r"image_shape must be two sides of at least 1 pixel, got \(0, 28\)"),
            ({"image_shape": (8, 8), "largest": 0}, r"largest must be in \[1, 255\], got 0"),
        ],
    )
    def test_wrong_options(self, options, message, tmp_path):
        with pytest.raises(ConfigError, match=message):
            load_digit(saved(seven(), tmp_path), **options)


def test_scale_to():
    row = np.array([0, 8, 127, 128, 255], dtype=np.uint8)
    np.testing.assert_array_equal(scale_to(row, 16), [0, 1, 8, 8, 16])
    np.testing.assert_array_equal(scale_to(row, 255), row)
    assert scale_to(row, 16).dtype == np.uint8
    with pytest.raises(ConfigError, match=r"got 256; use 255 for MNIST and 16"):
        scale_to(row, 256)
