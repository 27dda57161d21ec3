"""The stand-in's streams and graphs."""

# ruff: noqa: ARG005 - the cases of a test take the same arguments

import shutil

import numpy as np
import pytest

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="g++ is not installed")


def test_a_launch_runs_at_once_and_is_counted(cupy, adds, stream):
    y = cupy.zeros(3)
    adds(y, 1)
    with stream:
        assert cupy.cuda.get_current_stream() is stream
        adds(y, 2)
        stream.synchronize()
    assert cupy.cuda.get_current_stream() is cupy.cuda.Stream.null
    np.testing.assert_array_equal(y.get(), [3, 3, 3])
    assert (cupy.cuda.launches, cupy.cuda.replays) == (2, 0)


def test_streams_are_restored_in_turn(cupy, stream):
    other = cupy.cuda.Stream()
    other.use()
    with stream, other, stream:
        assert cupy.cuda.get_current_stream() is stream
    assert cupy.cuda.get_current_stream() is other
    cupy.cuda.Stream.null.use()


def test_a_graph_does_what_was_captured(cupy, adds, stream):
    y, z = cupy.zeros(3), cupy.zeros(2)
    number = 1
    with stream:
        stream.begin_capture()
        assert stream.is_capturing()
        adds(y, number)
        adds(z, 10)
        adds(y[1:], 100)
        graph = stream.end_capture()
    number = 2
    np.testing.assert_array_equal(y.get(), [0, 0, 0])
    assert (cupy.cuda.launches, cupy.cuda.replays) == (0, 0)
    graph.launch(stream)
    y[0] = 50
    graph.launch(stream)
    np.testing.assert_array_equal(y.get(), [51, 202, 202])
    np.testing.assert_array_equal(z.get(), [20, 20])
    assert (cupy.cuda.launches, cupy.cuda.replays) == (0, 2)


def test_only_the_capturing_stream_records(cupy, adds, stream):
    y = cupy.zeros(1)
    stream.begin_capture()
    adds(y, 1)  # on the null stream
    assert y.get()[0] == 1
    stream.end_capture().launch()
    assert y.get()[0] == 1


def test_a_graph_with_a_freed_array(cupy, host, adds, stream):
    y, z = cupy.zeros(4), cupy.zeros(4)
    with stream:
        stream.begin_capture()
        adds(z, 1)
        adds(y[1:3], 1)
        graph = stream.end_capture()
    part = y[3:]  # the memory lives as long as any view of it
    del y
    graph.launch(stream)
    del part
    with pytest.raises(host.KernelFault, match="kernel add_number of a graph: the array of argument 0 has been freed"):
        graph.launch(stream)


@pytest.mark.parametrize(
    "forbidden",
    [
        lambda cupy, y: y.get(),
        lambda cupy, y: cupy.asnumpy(y),
        lambda cupy, y: cupy.cuda.get_current_stream().synchronize(),
        lambda cupy, y: cupy.cuda.Device().synchronize(),
        lambda cupy, y: cupy.array(np.zeros(3)),
        lambda cupy, y: cupy.empty(3),
        lambda cupy, y: cupy.zeros_like(y),
        lambda cupy, y: y @ y,
        lambda cupy, y: y + 1,
        lambda cupy, y: y.sum(),
        lambda cupy, y: y.copy(),
        lambda cupy, y: y.fill(0),
        lambda cupy, y: y.take(y.astype(int), axis=0),
        lambda cupy, y: y.set(np.zeros(3)),
        lambda cupy, y: y.__setitem__(0, 1),
        lambda cupy, y: cupy.where(y, y, y),
    ],
)
def test_a_capturing_stream_takes_only_kernels(cupy, adds, stream, forbidden):
    y = cupy.ones(3)
    with stream:
        stream.begin_capture()
        adds(y[:2].reshape(2, 1), 1)  # views are no work for the device
        with pytest.raises(cupy.cuda.runtime.CUDARuntimeError, match="cudaErrorStreamCaptureUnsupported"):
            forbidden(cupy, y)
        with pytest.raises(cupy.cuda.runtime.CUDARuntimeError, match="cudaErrorStreamCaptureInvalidated"):
            stream.end_capture()
    np.testing.assert_array_equal(y.get(), [1, 1, 1])


def test_no_graph_is_launched_on_a_capturing_stream(cupy, adds, stream):
    y = cupy.zeros(1)
    with stream:
        stream.begin_capture()
        adds(y, 1)
        graph = stream.end_capture()
        stream.begin_capture()
        with pytest.raises(cupy.cuda.runtime.CUDARuntimeError, match=r"Graph\.launch on a stream that captures"):
            graph.launch()


def test_which_streams_capture(cupy, stream):
    for blocking in (cupy.cuda.Stream(), cupy.cuda.Stream.null):
        with pytest.raises(cupy.cuda.runtime.CUDARuntimeError, match="non_blocking=True"):
            blocking.begin_capture()
    with pytest.raises(cupy.cuda.runtime.CUDARuntimeError, match="does not capture"):
        stream.end_capture()
    stream.begin_capture()
    with pytest.raises(cupy.cuda.runtime.CUDARuntimeError, match="captures already"):
        stream.begin_capture()


def test_arguments_are_checked_while_capturing(module, stream):
    with stream:
        stream.begin_capture()
        with pytest.raises(TypeError, match="has 2 arguments"):
            module.get_function("add_number")((1,), (1,), ())
