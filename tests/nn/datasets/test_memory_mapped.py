"""Rows that stay in a file: the same bits as from memory, and no more memory than a batch takes."""

import json
import struct
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from xpnn import nn
from xpnn.backends import ConfigError, DataError
from xpnn.backends.mapped import is_mapped
from xpnn.nn.datasets.idx import read_idx
from xpnn.nn.files import limits
from xpnn.nn.training.identity import check_sum

FEATURES = 6


@pytest.fixture
def saved(tmp_path, make_problem):
    """`saved(rows, dtype="uint8")`: images (rows, 6) in memory, the same ones mapped, and labels (rows,)."""

    def save(rows=60, dtype="uint8"):
        images, labels = make_problem(rows)  # about half of the bytes are above 127: no zeros to skip
        images = images.astype(dtype) if dtype.startswith("uint") else (images / 255).astype(dtype)
        np.save(tmp_path / "images.npy", images)
        return images, np.load(tmp_path / "images.npy", mmap_mode="r"), labels

    return save


def trained(backend, data, **options):
    """Weights and history of a short run."""
    net = nn.MLP([FEATURES, 4, 3], backend=backend, seed=0)
    history = nn.train(net, data, optimizer=nn.Adam(0.01), **({"epochs": 2, "batch_size": 7} | options))
    figures = [(r.train_loss, r.train_accuracy, r.test_loss, r.test_accuracy) for r in history]
    return net, net.parameters(), figures


def assert_same(one, other):
    assert one[2] == other[2]
    for name, array in one[1].items():
        np.testing.assert_array_equal(array, other[1][name])


def test_what_is_mapped_is_told_from_copies(saved):
    images, mapped, _ = saved()
    assert is_mapped(mapped)
    assert is_mapped(np.asarray(mapped)[3:, ::2])
    assert is_mapped(mapped.reshape(-1, 2, 3))
    assert not is_mapped(images)
    assert not is_mapped(mapped[[0, 1]])
    assert not is_mapped(np.array(mapped))
    assert not is_mapped(mapped + np.uint8(1))


# The same bits


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize("batch_size", [7, None])
def test_a_run_on_mapped_rows_is_the_run_on_rows_in_memory(every_backend, saved, dtype, batch_size):
    images, mapped, labels = saved(dtype=dtype)
    runs = []
    inputs = (nn.Pixels if dtype == "uint8" else nn.Numbers)(class_names=tuple("abc"))
    for rows in (images, mapped):
        data = nn.Dataset("d", nn.Split(rows[:50], labels[:50]), nn.Split(rows[50:], labels[50:]), inputs)
        runs.append(trained(every_backend, data, batch_size=batch_size))
    if every_backend.name in ("numpy", "numba", "array-api-strict"):  # the others leave it to another kind of plan
        assert_same(*runs)
    else:
        np.testing.assert_allclose(runs[0][2], runs[1][2], rtol=1e-5)
    net = runs[0][0]
    np.testing.assert_array_equal(net.predict_proba(mapped), net.predict_proba(images))
    assert nn.evaluate(net, nn.Split(mapped, labels)) == nn.evaluate(net, nn.Split(images, labels))


@pytest.mark.parametrize("dtype", ["<f4", ">f4"])
def test_views_and_other_byte_orders_train_all_the_same(every_backend, saved, tmp_path, dtype):
    images, _, labels = saved(dtype="float32")
    np.save(tmp_path / "other.npy", images.astype(dtype))
    mapped = np.load(tmp_path / "other.npy", mmap_mode="r")
    runs = [trained(every_backend, nn.Split(rows[::2, ::-1], labels[::2])) for rows in (images, mapped)]
    for name, array in runs[0][1].items():
        np.testing.assert_allclose(array, runs[1][1][name], rtol=1e-5, atol=1e-6)


def test_the_cpu_s_backends_compute_where_the_rows_lie(saved):
    _, mapped, labels = saved()
    for name in ("numpy", "numba"):
        backend = nn.MLP([6, 3], backend=name).backend
        placed = backend.place(mapped, labels, 1.0)
        assert np.shares_memory(placed.images, mapped)
        assert not placed.on_host


def test_numba_s_plan_takes_mapped_rows_densely(tmp_path, make_problem):
    pytest.importorskip("numba")
    images, labels = make_problem(400)
    images = np.where(images > 200, images, 0)  # sparse, had they been in memory
    np.save(tmp_path / "images.npy", images)
    plans = []

    class Keep(nn.Callback):
        def on_train_begin(self, run):
            plans.append(run.plan.description)
            run.stop()

    for rows in (images, np.load(tmp_path / "images.npy", mmap_mode="r")):
        trained("numba", nn.Split(rows, labels), callbacks=[Keep()], epochs=1)
    assert [plan.split(",")[0] for plan in plans] == ["compiled: sparse input", "compiled: dense input"]


def test_rows_of_other_devices_stay_on_the_host(saved):
    strict = pytest.importorskip("array_api_strict")
    _, mapped, labels = saved()
    backend = nn.MLP([6, 3], backend="array-api-strict").backend
    placed = backend.place(mapped, labels, 0.5)
    assert placed.on_host
    assert np.shares_memory(placed.images, mapped)
    for index in (strict.asarray([3, 1, 3]), slice(2, 5)):
        x, taken = backend.batch(placed, index, strict.float32)
        rows = [3, 1, 3] if not isinstance(index, slice) else [2, 3, 4]
        np.testing.assert_array_equal(backend.to_numpy(x), mapped[rows].astype("float32") * np.float32(0.5))
        np.testing.assert_array_equal(backend.to_numpy(taken), labels[rows])


def test_a_run_goes_on_with_mapped_rows(saved, tmp_path):
    _, mapped, labels = saved()
    data = nn.from_arrays(mapped, labels)
    whole = trained("numpy", data, epochs=3)

    class Stop(nn.Callback):
        def on_epoch_end(self, run, result):  # noqa: ARG002
            run.stop()

    path = tmp_path / "c.safetensors"
    trained("numpy", data, epochs=3, callbacks=[nn.SaveCheckpoints(path), Stop()])
    resumed = trained("numpy", data, epochs=3, resume=path)
    assert_same(whole, resumed)


def test_rows_held_back_for_validation_stay_in_the_file(saved):
    images, mapped, labels = saved()
    seen = []

    class Keep(nn.Callback):
        def on_train_begin(self, run):
            seen.append(run.source.rows.images)

    run = trained("numpy", nn.Split(mapped, labels), validation=0.25, callbacks=[Keep()])
    assert np.shares_memory(seen[0], mapped)
    assert_same(
        run, trained("numpy", nn.Split(images[:45], labels[:45]), validation=nn.Split(images[45:], labels[45:]))
    )


@pytest.mark.parametrize("change", ["none", "pixel", "label"])
def test_the_check_sum_sees_every_row_whatever_its_block(saved, monkeypatch, change):
    images, mapped, labels = saved()
    expected = check_sum(nn.Split(images[:, ::2], labels))
    monkeypatch.setattr("xpnn.nn.inputs.arguments.BLOCK_BYTES", 7 * 6)
    images, labels = images.copy(), labels.copy()
    images[43, 2] += change == "pixel"
    labels[58] = (labels[58] + (change == "label")) % 3
    assert (check_sum(nn.Split(images[:, ::2], labels)) == expected) == (change == "none")
    assert check_sum(nn.Split(mapped[:, ::2], labels)) == expected or change == "label"


# from_arrays


@pytest.mark.parametrize("dtype", ["uint8", "float32", "float64"])
def test_from_arrays_leaves_the_rows_in_the_file(saved, dtype):
    images, mapped, labels = saved(dtype=dtype)
    data = nn.from_arrays(mapped, labels, test_fraction=0.25)
    assert np.shares_memory(data.train.images, mapped)
    assert np.shares_memory(data.test.images, mapped)
    np.testing.assert_array_equal(data.train.images, images[:45])
    np.testing.assert_array_equal(data.test.images, images[45:])
    np.testing.assert_array_equal(data.test.labels, labels[45:])
    expected = nn.from_arrays(images, labels, pixels=dtype == "uint8")
    assert (data.scale, data.image_shape) == (expected.scale, expected.image_shape)


def test_pictures_are_flattened_in_the_file(tmp_path):
    images = np.arange(240, dtype=np.uint8).reshape(20, 3, 4)
    np.save(tmp_path / "images.npy", images)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    data = nn.from_arrays(mapped, np.arange(20) % 2, test_images=mapped[:5], test_labels=[0, 1, 0, 1, 0])
    assert (data.image_shape, data.scale) == ((3, 4), 1 / 255)
    assert data.train.images.shape == (20, 12)
    assert np.shares_memory(data.train.images, mapped)
    assert np.shares_memory(data.test.images, mapped)


def test_other_types_come_into_memory_unless_they_are_too_many(saved, monkeypatch):
    images, mapped, labels = saved(dtype="uint16")
    data = nn.from_arrays(mapped, labels)
    assert data.train.images.dtype == np.float32
    assert not is_mapped(data.train.images)
    monkeypatch.setattr("xpnn.nn.datasets.raw_rows.memory_bytes", lambda: 700.0)
    with pytest.raises(
        DataError, match=r"mapped from a file as uint16 .* as float32: write the file as uint8, float32"
    ):
        nn.from_arrays(mapped, labels)
    nn.from_arrays(images, labels)
    np.save(mapped.filename, np.asfortranarray(images.astype("uint8")))
    with pytest.raises(DataError, match="in C order, of which nothing is copied"):
        nn.from_arrays(np.load(mapped.filename, mmap_mode="r"), labels)


def test_a_file_that_is_sorted_by_class_is_refused(saved):
    _, mapped, labels = saved()
    with pytest.raises(DataError, match="no other row has class 2: shuffle the file, or pass test_images"):
        nn.from_arrays(mapped, np.repeat([0, 1, 2], [25, 25, 10]))
    with pytest.raises(DataError, match="held out for testing, and all of them have class 1: shuffle the file"):
        nn.from_arrays(mapped, np.repeat([1, 0, 1], [10, 30, 20]))
    assert nn.from_arrays(mapped, np.repeat([1, 0, 1, 0], [10, 30, 19, 1])).test.labels.sum() == 11
    with pytest.raises(ConfigError, match="mapped from a file: shuffle the file"):
        nn.from_arrays(mapped, labels, stratify=True)
    with pytest.raises(DataError, match="leave 60 for training and 0 for the test"):
        nn.from_arrays(mapped, labels, test_fraction=0.001)
    with pytest.raises(DataError, match="brings them into memory, but those of arrays are mapped"):
        nn.resplit(nn.from_arrays(mapped, labels), test_fraction=0.5, seed=0)


@pytest.mark.parametrize("row", [0, 41, 59])
def test_a_number_that_is_not_finite_is_named_whatever_its_block(saved, tmp_path, monkeypatch, row):
    images, _, labels = saved(dtype="float32")
    images[row, 4] = np.nan
    np.save(tmp_path / "bad.npy", images)
    monkeypatch.setattr("xpnn.nn.inputs.arguments.BLOCK_BYTES", 7 * 24)
    with pytest.raises(DataError, match=f"images must be finite in float32, got nan at row {row}, column 4"):
        nn.from_arrays(np.load(tmp_path / "bad.npy", mmap_mode="r"), labels)


# Folders of .npy files, and large IDX files


def write_folder(folder, **arrays):
    folder.mkdir(exist_ok=True)
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    return folder


@pytest.mark.parametrize("names", [("images", "labels"), ("X", "y")])
def test_a_folder_of_two_arrays_is_split(tmp_path, make_problem, names):
    images, labels = make_problem(40)
    folder = write_folder(tmp_path / "own", **dict(zip(names, (images, np.array(list("abc"))[labels]), strict=True)))
    data = nn.load_dataset(folder, test_fraction=0.25)
    assert (data.name, data.class_names) == ("own", ("a", "b", "c"))
    assert is_mapped(data.train.images)
    np.testing.assert_array_equal(data.train.images, images[:30])
    np.testing.assert_array_equal(data.test.labels, labels[30:])


def test_a_folder_of_four_arrays_has_its_own_test_rows(tmp_path, make_problem):
    images, labels = make_problem(40)
    arrays = {"x_train": images[5:], "y_train": labels[5:], "x_test": images[:5], "y_test": labels[:5]}
    folder = write_folder(tmp_path / "own", **arrays)
    data = nn.load_dataset(folder)
    np.testing.assert_array_equal(data.test.images, images[:5])
    assert is_mapped(data.test.images)


def test_a_folder_with_a_part_of_the_arrays_is_refused(tmp_path):
    folder = write_folder(tmp_path / "own", images=np.zeros((4, 2), "uint8"))
    with pytest.raises(DataError, match=r"own must hold images.npy, labels.npy, got no labels.npy: add it"):
        nn.load_dataset(folder)
    (folder / "images.npy").rename(folder / "other.npy")
    with pytest.raises(DataError, match=r"must hold the four IDX files .* or images.npy and labels.npy, got none"):
        nn.load_dataset(folder)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a readable .npy"),
        (b"\x93NUMPY\x01\x00", "not a readable .npy"),
        (b"PK" + bytes(200), "not a readable .npy"),
        (None, r"promises \(4, 2\) values of 1 bytes, got 7 bytes: it is damaged; write it with numpy.save"),
    ],
)
def test_a_damaged_array_is_refused(tmp_path, content, message):
    folder = write_folder(tmp_path / "own", images=np.zeros((4, 2), "uint8"), labels=np.arange(4) % 2)
    path = folder / "images.npy"
    path.write_bytes(path.read_bytes()[:-1] if content is None else content)
    with pytest.raises(DataError, match=message):
        nn.load_dataset(folder)


def test_pickled_objects_and_bad_booleans_are_refused(tmp_path):
    labels = np.array([1, "a", None, 2], object)
    folder = write_folder(tmp_path / "own", images=np.zeros((4, 2), "uint8"), labels=labels)
    with pytest.raises(DataError, match="never unpickled"):
        nn.load_dataset(folder)
    write_folder(folder, images=np.zeros((4, 2), bool), labels=np.arange(4) % 2)
    content = (folder / "images.npy").read_bytes()
    (folder / "images.npy").write_bytes(content[:-1] + b"\x07")
    with pytest.raises(DataError, match="must hold booleans, got a byte above 1"):
        nn.load_dataset(folder)


def test_a_large_plain_idx_file_is_mapped(tmp_path, monkeypatch):
    images = np.random.default_rng(0).integers(0, 256, (10, 3, 4), dtype=np.uint8)
    path = tmp_path / "a.idx"
    path.write_bytes(struct.pack(">BBBB3I", 0, 0, 8, 3, 10, 3, 4) + images.tobytes())
    assert not is_mapped(read_idx(path))
    monkeypatch.setattr(limits, "DATA_BYTES", 100)
    mapped = read_idx(path)
    assert is_mapped(mapped)
    np.testing.assert_array_equal(mapped, images)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match="more than the limit of 100 bytes"):
        read_idx(path)


def test_train_and_evaluate_on_a_folder(tmp_path, monkeypatch):
    testing = pytest.importorskip("click.testing")
    from xpnn.nn.cli.app import xpnn

    monkeypatch.chdir(tmp_path)
    digits = nn.load_dataset("digits").train
    write_folder(tmp_path / "own", images=digits.images[:200], labels=digits.labels[:200])

    def run(*arguments):
        result = testing.CliRunner().invoke(xpnn, [*arguments, "--backend", "numpy", "--json"])
        return result, result.stdout and json.loads(result.stdout)

    for recipe in ("quickstart", "gd-10"):
        _, summary = run("train", recipe, "--data", "own", "--epochs", "2", "--out", recipe, "--test-fraction", "0.1")
        result, figures = run("evaluate", recipe, "--data", "own", "--out", "pictures")
        assert result.exit_code == 0, result.output
        assert (figures["rows"], figures["accuracy"]) == (20, summary["test_accuracy"])
    _, figures = run("evaluate", "gd-10", "--data", "own", "--part", "all")
    assert figures["rows"] == 200
    refused, _ = run("train", "gd-10-long", "--data", "own", "--epochs", "2", "--out", "long")
    assert refused.exit_code == 2
    assert "take another recipe" in refused.stderr


# Memory


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux bounds a process's own memory without mapped files")
@pytest.mark.parametrize(
    ("backend", "dtype"), [("numpy", "float32"), pytest.param("numba", "uint8", marks=pytest.mark.thorough)]
)
def test_a_file_much_larger_than_the_memory(tmp_path, backend, dtype):
    """Training, evaluation and a checkpoint on 512 MiB in a process that may take 96 MiB more than its start."""
    if backend == "numba":
        pytest.importorskip("numba")
    features = 2**10
    rows = 2**29 // features // np.dtype(dtype).itemsize
    path = tmp_path / "images.npy"
    np.lib.format.open_memmap(path, "w+", dtype, (rows, features))[::4096, ::3] = (
        0.5 if dtype == "float32" else 200
    )  # a file of holes
    script = """
        import resource, sys
        import numpy as np
        from xpnn import nn

        def net():
            return nn.MLP([1024, 4, 2], backend=sys.argv[2], seed=0)

        images = np.load(sys.argv[1], mmap_mode="r")
        labels = np.arange(len(images)) % 2
        warm = nn.from_arrays(np.full((6000, 1024), images[0, 0], images.dtype), labels[:6000])
        nn.train(net(), warm, epochs=1, batch_size=4096)  # what the libraries take for themselves
        used = int(next(line for line in open("/proc/self/status") if line.startswith("VmData")).split()[1]) * 1024
        resource.setrlimit(resource.RLIMIT_DATA, (used + 96 * 2**20,) * 2)
        try:
            np.ones(2**28, np.uint8)
        except MemoryError:
            print("bounded")
        data = nn.from_arrays(images, labels, test_fraction=0.25)
        save = nn.SaveCheckpoints(sys.argv[1] + ".safetensors")
        history = nn.train(net(), data, epochs=1, batch_size=4096, callbacks=[save])
        print(history[0].test_loss)
    """
    command = [sys.executable, "-c", textwrap.dedent(script), str(path), backend]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    bounded, loss = done.stdout.split()
    assert bounded == "bounded"
    assert 0.6 < float(loss) < 0.8
