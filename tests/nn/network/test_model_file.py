"""Model files: the round trip, files that are no model, and writing whole or not at all."""

import json
import os
import struct

import numpy as np
import pytest
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save as save_arrays
from xpnn import nn
from xpnn.backends import ACTIVATIONS, BackendUnavailable, ConfigError, DivergenceError, ModelFileError, RunError
from xpnn.nn.files.atomic import sync_folder, write_atomically
from xpnn.nn.files.tensors import BLANK, read_tensors, sealed, write_tensors


@pytest.fixture
def net(make_data):
    net = nn.MLP([6, 4, 3], activation="tanh", initializer="glorot", backend="numpy", seed=8)
    net.adopt(make_data())
    return net


@pytest.fixture
def path(net, tmp_path):
    """A sound model file."""
    nn.save(net, tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


def header_of(path):
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + length])


def rewrite(path, *, arrays=None, text=None, **changes):
    """Change arrays (None takes one out) or the description (`...` takes an entry out) of a model file."""
    description = json.loads(header_of(path)["__metadata__"]["xpnn"]) | changes
    description = {name: value for name, value in description.items() if value is not ...}
    kept = {
        name: array for name, array in (load_arrays(path.read_bytes()) | (arrays or {})).items() if array is not None
    }
    description.pop("sha256", None)
    content = save_arrays(kept, {"xpnn": json.dumps({"sha256": BLANK} | description) if text is None else text})
    path.write_bytes(content if text is not None else sealed(content))


# The round trip


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_everything_comes_back(backend, tmp_path, activation, dtype, small_problem):
    net = nn.MLP([6, 4, 3], activation=activation, initializer="uniform", backend=backend, dtype=dtype, seed=8)
    net.inputs = nn.Pixels(count=6, largest=200, shape=(2, 3), class_names=("a", "ß", "✓"))
    nn.save(net, tmp_path / "m.safetensors")
    back = nn.load(tmp_path / "m.safetensors", backend="numpy")
    for name in ("sizes", "activation", "initializer", "dtype", "inputs"):
        assert getattr(back, name) == getattr(net, name)
    for name, array in net.parameters().items():
        assert back.parameters()[name].dtype == array.dtype
        np.testing.assert_array_equal(back.parameters()[name], array)
    np.testing.assert_allclose(back.logits(small_problem[0]), net.logits(small_problem[0]), rtol=1e-4, atol=1e-5)


def test_a_model_can_be_loaded_onto_every_backend(every_backend, net, path, small_problem):
    back = nn.load(path, backend=every_backend)
    assert back.backend is every_backend
    np.testing.assert_array_equal(back.predict(small_problem[0]), net.predict(small_problem[0]))


def test_an_untrained_network_comes_back_without_inputs(tmp_path):
    nn.save(nn.MLP([6, 3], backend="numpy"), str(tmp_path / "m"))
    back = nn.load(str(tmp_path / "m"), backend="numpy")
    assert back.inputs is None


@pytest.mark.parametrize("name", ["São\u00a0Paulo", "日本\u3000語", "👨‍👩‍👧"])
def test_any_class_name_that_is_saved_can_be_loaded(net, tmp_path, name):
    net.inputs = nn.Numbers(class_names=("a", "b", name))
    nn.save(net, tmp_path / "m")
    assert nn.load(tmp_path / "m", backend="numpy").class_names == ("a", "b", name)
    net.inputs = nn.Numbers(class_names=("a", "b", "\x1b[2J"))
    with pytest.raises(ConfigError, match=r"class names must be without control characters, got '\\x1b"):
        nn.save(net, tmp_path / "m")


def test_a_largest_pixel_that_is_a_numpy_number_is_saved(net, tmp_path):
    net.inputs = nn.Pixels(largest=np.float32(4))
    nn.save(net, tmp_path / "m")
    assert nn.load(tmp_path / "m", backend="numpy").input_scale == 0.25


def test_the_file_is_plain_safetensors(path, net):
    arrays = load_arrays(path.read_bytes())
    assert sorted(arrays) == ["layers.0.bias", "layers.0.weight", "layers.1.bias", "layers.1.weight"]
    np.testing.assert_array_equal(arrays["layers.0.weight"], net.parameters()["layers.0.weight"])
    description = json.loads(header_of(path)["__metadata__"]["xpnn"])
    assert len(description.pop("sha256")) == 64
    assert description == {
        "kind": "model",
        "sizes": [6, 4, 3],
        "activation": "tanh",
        "loss": "softmax_cross_entropy",
        "initializer": "glorot",
        "dtype": "float32",
        "inputs": {
            "kind": "pixels", "class_names": ["a", "b", "c"], "target": None, "count": 6, "largest": 255.0,
            "shape": [2, 3],
        },
    }  # fmt: skip


def test_arrays_that_are_not_contiguous_are_saved_right(tmp_path):
    array = np.arange(12.0).reshape(3, 4)
    views = {"transposed": array.T, "stepped": array[::2, ::-1], "fortran": np.asfortranarray(array)}
    write_tensors(tmp_path / "t", views, {"kind": "test"})
    back, description = read_tensors(tmp_path / "t", "test")
    assert description == {"kind": "test"}
    for name, view in views.items():
        np.testing.assert_array_equal(back[name], view)


def test_weights_that_are_not_contiguous_are_saved_right(tmp_path):
    net = nn.MLP([3, 4], backend="numpy", dtype="float64")
    net.layers[0].weight = np.arange(12.0).reshape(4, 3).T
    nn.save(net, tmp_path / "m")
    np.testing.assert_array_equal(
        nn.load(tmp_path / "m", backend="numpy").parameters()["layers.0.weight"], np.arange(12.0).reshape(4, 3).T
    )


def test_weights_of_another_type_than_the_described_one(path):
    """A float64 number may be beyond float32."""
    wide = {name: array.astype("float64") for name, array in load_arrays(path.read_bytes()).items()}
    rewrite(path, arrays=wide)
    with pytest.raises(ModelFileError, match=r"layers\.\d\.(weight|bias) must be of the type 'float32'"):
        nn.load(path, backend="numpy")


# Files that are no model


def test_a_missing_file(tmp_path):
    with pytest.raises(ModelFileError, match=r"there is no file .*nothing; `xpnn train` writes one"):
        nn.load(tmp_path / "nothing", backend="numpy")
    with pytest.raises(ModelFileError, match="there is no file"):
        nn.load(tmp_path, backend="numpy")


@pytest.mark.parametrize("kept", [0, 4, 8, 100, -1])
def test_a_truncated_file(path, kept):
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ModelFileError, match=r"model.safetensors is damaged, or is no model that xpnn wrote: ."):
        nn.load(path, backend="numpy")


def test_bytes_after_the_end(path):
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(ModelFileError, match="is damaged, or is no model that xpnn wrote"):
        nn.load(path, backend="numpy")


@pytest.mark.parametrize("position", [0, 3, 7, 8, 9, 20])
def test_a_flipped_byte_in_the_header(path, position):
    content = bytearray(path.read_bytes())
    content[position] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match="is damaged, or is no model that xpnn wrote"):
        nn.load(path, backend="numpy")


def test_a_pickle_is_not_even_looked_into(path):
    path.write_bytes(b"\x80\x04cos\nsystem\n(S'false'\ntR.")
    with pytest.raises(ModelFileError, match="is damaged, or is no model that xpnn wrote"):
        nn.load(path, backend="numpy")


@pytest.mark.parametrize("text", ["{", "[1, 2", "\x00", "nonsense"])
def test_a_description_that_is_no_json(path, text):
    rewrite(path, text=text)
    with pytest.raises(ModelFileError, match="is damaged, or is no model that xpnn wrote"):
        nn.load(path, backend="numpy")


@pytest.mark.parametrize("text", ["[]", "5", "null", "{}", '{"kind": "checkpoint"}', '{"kind": ["model"]}'])
def test_a_description_of_something_else(path, text):
    rewrite(path, text=text)
    with pytest.raises(ModelFileError, match=r"model.safetensors is damaged, or is no model that xpnn wrote"):
        nn.load(path, backend="numpy")


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}])
def test_a_safetensors_file_of_another_program(path, metadata):
    path.write_bytes(save_arrays({"w": np.zeros(3)}, metadata))
    with pytest.raises(ModelFileError, match="is no model that xpnn wrote"):
        nn.load(path, backend="numpy")


@pytest.mark.parametrize(
    "changes",
    [
        {"sizes": ...},
        {"sizes": []},
        {"sizes": [6]},
        {"sizes": [6, 4, 3, 3]},
        {"sizes": [6, 5, 3]},
        {"sizes": [6, 4]},
        {"sizes": [6.5, 4, 3]},
        {"sizes": [-6, 4, 3]},
        {"sizes": [10**30, 10**30, 3]},
        {"sizes": ["a", 4, 3]},
        {"sizes": [float("inf"), 4, 3]},
        {"sizes": "643"},
        {"sizes": 5},
        {"activation": "rely"},
        {"activation": ["relu"]},
        {"activation": ...},
        {"initializer": None},
        {"dtype": "float16"},
        {"inputs": []},
        {"inputs": "pixels"},
        {"inputs": {}},
        {"arrays": {"layers.0.weight": None}},
        {"arrays": {"layers.0.weight": np.full((6, 4), np.nan, np.float32)}},
        {"arrays": {"layers.1.bias": np.array([0, np.inf, 0], np.float32)}},
        {"arrays": {"layers.1.bias": None}},
        {"arrays": {"layers.1.bias": np.zeros(4, np.float32)}},
        {"arrays": {"layers.0.weight": np.zeros((4, 6), np.float32)}},
        {"arrays": {"layers.2.weight": np.zeros((3, 3), np.float32)}},
    ],
    ids=repr,
)
def test_a_model_that_contradicts_itself(path, changes):
    rewrite(path)
    assert nn.load(path, backend="numpy").sizes == (6, 4, 3)  # rewriting alone does no harm
    rewrite(path, **changes)
    with pytest.raises(ModelFileError, match=r"model.safetensors is damaged,? or (was written|is no model)"):
        nn.load(path, backend="numpy")


OLD = {"inputs": ..., "input_scale": 0.25, "class_names": ["a", "b", "c"], "image_shape": [2, 3]}


def test_a_file_of_an_older_version_is_loaded(path):
    rewrite(path, **OLD)
    pixels = nn.Pixels(count=6, largest=4.0, shape=(2, 3), class_names=("a", "b", "c"))
    assert nn.load(path, backend="numpy").inputs == pixels
    rewrite(path, **OLD | {"input_scale": 1.0, "class_names": None, "image_shape": None})
    assert nn.load(path, backend="numpy").inputs == nn.Numbers(count=6)


@pytest.mark.parametrize(
    "changes",
    [
        {"input_scale": "1/255"},
        {"input_scale": None},
        {"input_scale": 0},
        {"input_scale": 5e-324},
        {"input_scale": True},
        {"input_scale": -1.0},
        {"input_scale": float("nan")},
        {"input_scale": float("inf")},
        {"input_scale": ...},
        {"class_names": ["a", "b", "a"]},
        {"class_names": [1, "1", "b"]},
        {"class_names": ["a", "b"]},
        {"class_names": 3},
        {"class_names": ["a", "\x1b[2J", "c"]},
        {"class_names": ...},
        {"image_shape": [2]},
        {"image_shape": [2, 3, 1]},
        {"image_shape": [3, 3]},
        {"image_shape": [-2, -3]},
        {"image_shape": 5},
        {"image_shape": ["x", 3]},
        {"image_shape": ...},
    ],
    ids=repr,
)
def test_a_file_of_an_older_version_that_contradicts_itself(path, changes):
    rewrite(path, **OLD | changes)
    with pytest.raises(ModelFileError, match=r"model.safetensors is damaged,? or (was written|is no model)"):
        nn.load(path, backend="numpy")


NAMES = {"class_names": ["a", "b", "c"], "target": None}
NUMBERS = {"kind": "numbers", "count": 6, **NAMES}
PIXELS = {"kind": "pixels", "count": 6, "largest": 255.0, "shape": [2, 3], **NAMES}
COLUMNS = [
    {"name": "age", "mean": 40.0, "std": 10.0, "fill": 38.0, "has_flag": True},
    {"name": "town", "kind": "category", "levels": ["Bonn", "Ulm"], "has_flag": True},
    {"name": "member", "kind": "truth"},
]
TABLE = {"kind": "table", "columns": COLUMNS, "is_named": True, "label": "y", "identifier": None, **NAMES}


def columns_with(place, **changes):
    changed = {name: value for name, value in (COLUMNS[place] | changes).items() if value is not ...}
    return {"columns": [changed if k == place else column for k, column in enumerate(COLUMNS)]}


@pytest.mark.parametrize(
    ("inputs", "changes"),
    [
        *(
            (inputs, changes)
            for inputs in (NUMBERS, PIXELS, TABLE)
            for changes in (
                {"kind": "sounds"},
                {"kind": ["pixels"]},
                {"kind": ...},
                {"class_names": ["a", "b", "a"]},
                {"class_names": [1, "1", "b"]},
                {"class_names": ["a", "b"]},
                {"class_names": 3},
                {"class_names": None},
                {"class_names": ["a", "\x1b[2J", "c"]},
                {"class_names": ...},
                {"target": ...},
                {"target": 5},
                {"target": {"mean": [0.0] * 3}},
                {"target": {"mean": [0.0] * 2, "std": [1.0] * 2}},
                {"target": {"mean": [0.0, 0.0, float("nan")], "std": [1.0] * 3}},
                {"target": {"mean": [0.0] * 3, "std": [1.0, 1.0, 0.0]}},
                {"target": {"mean": [0.0] * 3, "std": [1.0, 1.0, float("inf")]}},
                {"target": {"mean": [0.0] * 3, "std": [1.0, 1.0, 5e-324]}},
                {"target": {"mean": ["0"] * 3, "std": [1.0] * 3}},
            )
        ),
        *(
            (inputs, changes)
            for inputs in (NUMBERS, PIXELS)
            for changes in ({"count": 5}, {"count": 6.0}, {"count": "6"}, {"count": 0}, {"count": True}, {"count": ...})
        ),
        *(
            (PIXELS, {"largest": each})
            for each in ("255", None, 0, -1.0, True, float("nan"), float("inf"), 5e-324, ...)
        ),
        *((PIXELS, {"shape": each}) for each in ([2], [2, 3, 1], [3, 3], [-2, -3], 5, ["x", 3], "23", ...)),
        *((TABLE, {"columns": each}) for each in (None, [], 5, "abc", [5], COLUMNS[:2], COLUMNS * 2, ...)),
        *((TABLE, {"is_named": each}) for each in (None, "yes", 1, ...)),
        *((TABLE, {name: each}) for name in ("label", "identifier") for each in (5, ["y"], "\x1b[2J", ...)),
        *((TABLE, columns_with(0, name=each)) for each in (5, None, "town", "\x1b[2J", ...)),
        *((TABLE, columns_with(0, mean=each)) for each in ("40", None, float("nan"), float("inf"), True)),
        *((TABLE, columns_with(0, std=each)) for each in ("1", None, 0.0, -1.0, 5e-324, float("nan"), float("inf"))),
        *((TABLE, columns_with(0, fill=each)) for each in ("38", float("nan"), float("-inf"))),
        *((TABLE, columns_with(0, has_flag=each)) for each in (1, "yes", None, False)),
        *((TABLE, columns_with(0, kind=each)) for each in ("numbers", None, ["number"], "category")),
        (TABLE, columns_with(0, levels=["a", "b"])),
        (TABLE, columns_with(0, unit="years")),
        *(
            (TABLE, columns_with(1, levels=each))
            for each in ([], ["Bonn"], ["Bonn", "Bonn"], [1, 2], 5, ["a", "\x07"], ...)
        ),
    ],
    ids=lambda value: value["kind"] if "class_names" in value and "kind" in value else repr(value)[:80],
)
def test_inputs_that_contradict_themselves_or_the_network(path, inputs, changes):
    rewrite(path, inputs={name: value for name, value in (inputs | changes).items() if value is not ...})
    with pytest.raises(ModelFileError, match=r"model.safetensors is damaged,? or (was written|is no model)"):
        nn.load(path, backend="numpy")


@pytest.mark.parametrize("inputs", [NUMBERS, PIXELS, TABLE], ids=lambda inputs: inputs["kind"])
@pytest.mark.parametrize("target", [None, {"mean": [1.0, 2.0, 3.0], "std": [1.0, 0.5, 2.0]}])
def test_inputs_come_back(path, inputs, target):
    rewrite(path, inputs=inputs | {"target": target})
    net = nn.load(path, backend="numpy")
    assert json.loads(json.dumps(net.inputs.settings())) == inputs | {"target": target}
    nn.save(net, path)
    assert nn.load(path, backend="numpy").inputs == net.inputs


def test_a_backend_that_cannot_be_had_is_not_the_files_fault(path, monkeypatch):
    def refuse(_module, _kind):
        raise BackendUnavailable("not here")

    monkeypatch.setattr("xpnn.backends.registry._load_builtin", refuse)
    with pytest.raises(BackendUnavailable, match=r"^not here$"):
        nn.load(path, backend="numpy")


# Whole or not at all


def test_weights_that_are_not_finite_are_not_saved_over_good_ones(path, net):
    before = path.read_bytes()
    net.layers[1].bias[2] = np.nan
    with pytest.raises(
        DivergenceError, match=r"is not written, because of nan in layers.1.bias at \[2\]: save the last"
    ):
        nn.save(net, path)
    assert path.read_bytes() == before


def test_a_file_is_replaced(path):
    nn.save(nn.MLP([2, 2], backend="numpy"), path)
    assert nn.load(path, backend="numpy").sizes == (2, 2)
    assert list(path.parent.iterdir()) == [path]


def fail(*_arguments):
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("failing", ["os.fsync", "pathlib.Path.replace"])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(path, monkeypatch, failing):
    before = path.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(failing, fail)
        with pytest.raises(RunError, match=r"cannot write .*model.safetensors: No space left on device$"):
            nn.save(nn.MLP([2, 2], backend="numpy"), path)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_a_write_that_fails_without_a_number_still_has_its_reason(tmp_path, monkeypatch):
    def refuse(*_arguments):
        raise OSError("the cable is out")

    monkeypatch.setattr("os.fsync", refuse)
    with pytest.raises(RunError, match=r"cannot write .*x: the cable is out$"):
        write_atomically(tmp_path / "x", b"")


def test_an_interrupt_leaves_no_temporary_file(path, monkeypatch):
    def interrupt(*_arguments):
        raise KeyboardInterrupt

    before = path.read_bytes()
    monkeypatch.setattr("os.fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, b"new")
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_the_content_is_forced_to_disk_before_the_rename_and_the_folder_after_it(path, monkeypatch):
    done, fsync, rename = [], os.fsync, type(path).replace
    monkeypatch.setattr("os.fsync", lambda descriptor: done.append("sync") or fsync(descriptor))
    monkeypatch.setattr("pathlib.Path.replace", lambda self, to: done.append("rename") or rename(self, to))
    write_atomically(path, b"new")
    assert done == ["sync", "rename", "sync"]
    assert path.read_bytes() == b"new"


def test_where_folders_cannot_be_opened_none_is_forced_to_disk(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr("os.fsync", synced.append)
    with monkeypatch.context() as patch:
        patch.setattr("os.name", "nt")
        sync_folder(tmp_path)
    assert synced == []
    sync_folder(tmp_path)
    assert len(synced) == 1


@pytest.mark.parametrize("place", ["nowhere/m", "file/m", "x" * 300])
def test_a_place_that_cannot_be_written_to(net, tmp_path, place):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(RunError, match=r"cannot write .*: (No such file|Not a directory|File name too long)"):
        nn.save(net, tmp_path / place)


def test_a_wrong_backend_is_not_the_files_fault(path):
    with pytest.raises(ConfigError, match=r"unknown backend 'numpyy' \(did you mean 'numpy'"):
        nn.load(path, backend="numpyy")


@pytest.mark.parametrize("wrong", [None, 3, "", "."])
def test_what_is_no_path(net, wrong):
    with pytest.raises(ConfigError, match="a model's file must be a path, got"):
        nn.save(net, wrong)
    with pytest.raises(ConfigError, match="a model's file must be a path, got"):
        nn.load(wrong, backend="numpy")
    with pytest.raises(ConfigError, match=r"the network must be an nn.MLP, got str"):
        nn.save("model.safetensors", net)
