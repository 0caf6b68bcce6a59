"""Whether there is a GPU, as the driver says."""

from __future__ import annotations

import ctypes
from collections.abc import Generator
from pathlib import Path

import pytest

from distillery.core.served_models import has_gpu


class FakeDriver:
    """NVML that finds so many GPUs; a driver that can't be initialised has none to tell of."""

    def __init__(self, number: int, status: int = 0) -> None:
        self.number, self.status = number, status

    def nvmlInit_v2(self) -> int:
        return self.status

    def nvmlDeviceGetCount_v2(self, number: object) -> int:
        ctypes.cast(number, ctypes.POINTER(ctypes.c_uint))[0] = self.number  # type: ignore[arg-type]
        return 0


@pytest.fixture(autouse=True)
def asked_anew(monkeypatch: pytest.MonkeyPatch) -> Generator[None]:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    has_gpu.cache_clear()
    yield
    has_gpu.cache_clear()


@pytest.mark.parametrize(
    ("driver", "found"), [(FakeDriver(2), True), (FakeDriver(0), False), (FakeDriver(1, status=9), False)]
)
def test_a_gpu_is_one_that_the_driver_has(monkeypatch: pytest.MonkeyPatch, driver: FakeDriver, found: bool):
    monkeypatch.setattr(ctypes, "CDLL", lambda name: driver)
    assert has_gpu() is found


def test_a_program_called_nvidia_smi_is_no_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Base images come with one, whatever they run on."""
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert not has_gpu()
