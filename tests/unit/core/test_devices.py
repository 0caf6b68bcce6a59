"""The GPUs of a machine, by its driver."""

from __future__ import annotations

import ctypes
from collections.abc import Generator
from pathlib import Path

import pytest

from distillery.core.devices import machine_has_gpu


class FakeDriver:
    """NVML that finds so many GPUs; a driver that can't be initialized reports none."""

    def __init__(self, number: int, status: int = 0) -> None:
        self.number, self.status = number, status

    def nvmlInit_v2(self) -> int:
        return self.status

    def nvmlDeviceGetCount_v2(self, number: object) -> int:
        ctypes.cast(number, ctypes.POINTER(ctypes.c_uint))[0] = self.number  # type: ignore[arg-type]
        return 0


@pytest.fixture(autouse=True)
def forget_the_answer(monkeypatch: pytest.MonkeyPatch) -> Generator[None]:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    machine_has_gpu.cache_clear()
    yield
    machine_has_gpu.cache_clear()


@pytest.mark.parametrize(
    ("driver", "expected"), [(FakeDriver(2), True), (FakeDriver(0), False), (FakeDriver(1, status=9), False)]
)
def test_machine_has_gpu_when_the_driver_reports_one(
    monkeypatch: pytest.MonkeyPatch, driver: FakeDriver, expected: bool
):
    monkeypatch.setattr(ctypes, "CDLL", lambda name: driver)
    assert machine_has_gpu() is expected


def test_machine_has_no_gpu_when_only_nvidia_smi_is_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Base images come with one, whatever they run on."""
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert not machine_has_gpu()
