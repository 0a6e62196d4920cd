"""How many processors this process may use."""

import contextlib
import math
import os
import pathlib


def cores(root: str | os.PathLike = "/") -> int:
    """Count the processors that this process may use: its affinity, and the quotas of its cgroups.

    A container with two of a machine's 64 processors sees all 64. Its share stands in the files of
    its control groups, and no group gives more than those above it.

    Args:
        root: The folder under which `proc` and `sys` lie.

    Returns:
        The number, at least 1. A part of a processor counts as one.
    """
    root = pathlib.Path(root)
    shares: list[float] = [len(os.sched_getaffinity(0))]
    groups = ""
    with contextlib.suppress(OSError):  # no cgroups, no quotas
        groups = (root / "proc/self/cgroup").read_text()
    for group in groups.splitlines():
        _, controllers, path = group.split(":", 2)
        mounts = []
        if not controllers:  # version 2, alone or beside version 1
            mounts = ["", "unified"]
        elif "cpu" in controllers.split(","):  # version 1
            mounts = ["cpu"]
        for top in (root / "sys/fs/cgroup" / mount for mount in mounts):
            own = top / path.lstrip("/")
            above = [folder for folder in own.parents if folder.is_relative_to(top)]
            shares += map(_quota, [own, *above])
    return max(1, math.ceil(min(shares)))


def _quota(group: pathlib.Path) -> float:
    """Say how many processors a group gives: infinitely many where it sets no limit."""
    with contextlib.suppress(OSError, ValueError):  # no such file, or "max"
        quota, period = (group / "cpu.max").read_text().split()
        return int(quota) / int(period)
    with contextlib.suppress(OSError, ValueError):
        quota = int((group / "cpu.cfs_quota_us").read_text())
        if quota > 0:
            return quota / int((group / "cpu.cfs_period_us").read_text())
    return math.inf
