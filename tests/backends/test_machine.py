"""Cores among which work is shared, and the processor's name, on systems that are not this one."""

from types import SimpleNamespace

import pytest
from llvmlite.binding import get_host_cpu_name
from xpnn.backends import machine


@pytest.mark.parametrize(
    ("capacities", "count"),
    [
        ([1024] * 8, 8),
        ([310, 310, 1024, 1024], 2),  # four of the slow ones' pace are 1240, two of the fast ones' 2048
        ([800, 1024, 800, 800], 4),
        ([160, 1024, 160, 480, 480, 160], 3),
        ([], 4),  # not stated, as on x86
        ([1024, "unknown"], 2),
    ],
)
def test_as_many_cores_are_taken_as_do_equal_shares_soonest(tmp_path, monkeypatch, capacities, count):
    monkeypatch.setattr(machine, "usable_core_numbers", lambda: set(range(len(capacities) or 4)))
    monkeypatch.setattr(machine.platform, "system", lambda: "Linux")
    for number, capacity in enumerate(capacities):
        (tmp_path / f"cpu{number}").mkdir()
        (tmp_path / f"cpu{number}" / "cpu_capacity").write_text(f"{capacity}\n")
    assert machine.even_cores(tmp_path) == count


@pytest.mark.parametrize(("stated", "count"), [(4, 4), (0, 10), (12, 10)])
def test_on_apple_processors_the_performance_cores_are_taken(monkeypatch, stated, count):
    monkeypatch.setattr(machine, "usable_core_numbers", lambda: set(range(10)))
    monkeypatch.setattr(machine.platform, "system", lambda: "Darwin")

    def sysctlbyname(name, count, size, *_):
        assert (name, size._obj.value) == (b"hw.perflevel0.logicalcpu", 4)
        count._obj.value = stated  # 0 as it was, where the name is unknown

    monkeypatch.setattr(machine.ctypes, "CDLL", lambda _: SimpleNamespace(sysctlbyname=sysctlbyname))
    assert machine.even_cores() == count


def test_a_processor_without_a_model_name_has_the_compilers(tmp_path):
    path = tmp_path / "cpuinfo"
    assert machine._processor(path) == get_host_cpu_name() != "generic"  # there is no such file on macOS and Windows
    path.write_text("processor\t: 0\nCPU implementer\t: 0x41\n")  # as on ARM
    assert machine._processor(path) == get_host_cpu_name()
    path.write_text("processor\t: 0\nmodel name\t: A processor\n")
    assert machine._processor(path) == "A processor"
