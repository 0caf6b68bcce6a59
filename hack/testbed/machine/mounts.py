"""What is mounted below a folder."""

from __future__ import annotations

import subprocess
from pathlib import Path

from hack.testbed.errors import ClusterError


def below(*roots: Path) -> list[Path]:
    """Mount points at or below these folders, the ones on top first."""
    lines = Path("/proc/self/mounts").read_text().splitlines()
    # spaces and the like are written as octal escapes
    points = [Path(line.split()[1].encode().decode("unicode_escape")) for line in lines]
    return [point for point in reversed(points) if any(point.is_relative_to(root) for root in roots)]


def release(*roots: Path) -> None:
    """Unmount everything at or below these folders; what is still in use goes when its last user does.

    Raises:
        ClusterError: Something is still mounted: what is deleted below it might be a file of the machine.
    """
    for point in below(*roots):
        subprocess.run(["umount", "--lazy", str(point)], check=False, capture_output=True)
    if left := below(*roots):
        raise ClusterError(f"can't unmount {', '.join(map(str, left))}")
