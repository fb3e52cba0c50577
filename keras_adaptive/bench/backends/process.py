"""The memory of this process and the name of its processor, where the system reports them."""

import ctypes
import platform
import re
from pathlib import Path

_SYSTEM = Path("/proc/self")


def extra_bytes(call):
    """The rise of the process's memory during the call, at its peak; None if the system does not report it."""
    if not (_SYSTEM / "clear_refs").exists():
        return None
    # Free memory that the allocator holds would hide what the call takes.
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
    try:
        # Resets the peak.
        (_SYSTEM / "clear_refs").write_text("5")
    except PermissionError:
        return None
    before = _status("VmRSS")
    call()
    return max(_status("VmHWM") - before, 0)


def _status(name):
    return 1024 * int(re.findall(rf"^{name}:\s+(\d+) kB", (_SYSTEM / "status").read_text(), re.MULTILINE)[0])


def processor():
    """The name of the processor."""
    try:
        found = re.search(r"^model name\s*: (.+)", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return found[1] if found else platform.processor() or platform.machine()
