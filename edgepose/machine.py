"""The processor of this machine: its name, and the number of cores this process may use. Imports nothing of
edgepose."""

from __future__ import annotations

import math
import os
import platform
from pathlib import Path


def processor() -> str:
    """The processor's name as the system gives it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def has_bfloat16() -> bool:
    """True if the processor multiplies bfloat16 itself; without that it is emulated, many times slower than float32."""
    try:
        words = set(Path("/proc/cpuinfo").read_text().lower().split())
    except OSError:
        return True  # nobody knows
    return bool(words & {"avx512_bf16", "amx_bf16", "bf16"})


def cores() -> int:
    """The number of processors this process may run on, or has the time of, where a quota gives it less."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cpu_quota()
    return count if quota is None else min(count, math.ceil(quota))


def cpu_quota(groups: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> float | None:
    """The time that this process may take, in processors, as `docker run --cpus` gives it; None without a quota.

    groups: Linux's control groups, version 1 or 2; own: which of them this process is in. A group has no more than
    those it lies in.
    """
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return None
    quotas = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:  # version 2
            tops = [groups, groups / "unified"]
        else:
            tops = [groups / controllers, groups / "cpu"] if "cpu" in controllers.split(",") else []
        for top in tops:
            group = top / path.lstrip("/")
            for folder in (group, *group.parents):
                quotas.append(_quota_of(folder))
                if folder == top:
                    break
    return min((quota for quota in quotas if quota), default=None)


def _quota_of(folder: Path) -> float | None:
    try:
        if (folder / "cpu.max").is_file():
            quota, period = (folder / "cpu.max").read_text().split()
        else:
            quota, period = (folder / "cpu.cfs_quota_us").read_text(), (folder / "cpu.cfs_period_us").read_text()
        return int(quota) / int(period) if int(quota) > 0 and int(period) > 0 else None
    except (OSError, ValueError):  # no such group, or "max": no quota
        return None
