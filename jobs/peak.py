"""The peak memory of this process; imports next to nothing, so that it can be asked for in any process."""

from __future__ import annotations

import resource
import sys
from pathlib import Path


def peak_bytes() -> float:
    """The most memory that was resident since the process began, or since the kernel's mark of it was set back."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return 1024 * float(next(line.split()[1] for line in lines if line.startswith("VmHWM")))
    except (OSError, StopIteration):
        in_bytes = sys.platform == "darwin"
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1.0 if in_bytes else 1024.0)
