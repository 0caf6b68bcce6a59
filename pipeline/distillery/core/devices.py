"""The GPUs of this machine."""

from __future__ import annotations

import ctypes
import functools
import os


@functools.cache
def machine_has_gpu() -> bool:
    """Return whether NVIDIA's driver has a GPU for this process; asked without loading torch."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        return False
    try:
        driver = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return False
    number = ctypes.c_uint()
    return driver.nvmlInit_v2() == 0 and driver.nvmlDeviceGetCount_v2(ctypes.byref(number)) == 0 and number.value > 0
