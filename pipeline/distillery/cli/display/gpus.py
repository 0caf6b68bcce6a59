"""The load of this machine's GPUs, as nvidia-smi reports it; empty on a machine without one."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from dataclasses import dataclass

_FIELDS = "index,name,utilization.gpu,memory.used,memory.total,power.draw"
_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU's figures; None where the driver does not report them.

    Attributes:
        busy: percent of the last sampling period in which a kernel ran.
        used: MiB of memory in use.
        total: MiB of memory.
        watts: drawn now.
    """

    index: str
    name: str
    busy: float | None
    used: float | None
    total: float | None
    watts: float | None

    def __str__(self) -> str:
        parts = [f"GPU {self.index}  {self.name}"]
        if self.busy is not None:
            parts.append(f"{self.busy:.0f} % busy")
        if self.used is not None and self.total is not None:
            parts.append(f"{self.used / 1024:.1f}/{self.total / 1024:.1f} GiB")
        if self.watts is not None:
            parts.append(f"{self.watts:.0f} W")
        return "  ".join(parts)


async def read_gpus() -> list[Gpu]:
    """Return the present figures; none if nvidia-smi is not there, fails or hangs."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    process = await asyncio.create_subprocess_exec(
        program,
        f"--query-gpu={_FIELDS}",
        "--format=csv,noheader,nounits",
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        output, _ = await asyncio.wait_for(process.communicate(), _SECONDS)
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        return []
    return parse_gpus(output.decode(errors="replace")) if process.returncode == 0 else []


def parse_gpus(output: str) -> list[Gpu]:
    """Parse the lines that nvidia-smi prints."""
    result = []
    for line in output.splitlines():
        cells = [cell.strip() for cell in line.split(",")]
        if len(cells) == len(_FIELDS.split(",")):
            result.append(Gpu(cells[0], cells[1], *map(_number, cells[2:])))
    return result


def _number(cell: str) -> float | None:
    """Return a cell as a number; None if it is not one."""
    try:
        return float(cell)
    except ValueError:  # [N/A], [Not Supported]
        return None
