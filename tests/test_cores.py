"""How many processors are counted, by affinity and by the files of cgroups."""

import os

import pytest

from fedcourse.cores import cores

SEEN = len(os.sched_getaffinity(0))


@pytest.fixture
def many(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: range(64))


def files(root, **contents):
    for path, text in contents.items():
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return root


V2, V1 = "0::/pods/mine\n", "4:cpu,cpuacct:/pods/mine\n1:name=systemd:/else\n0::/\n"
PODS = "sys/fs/cgroup/pods"


@pytest.mark.parametrize(
    ("contents", "count"),
    [
        ({}, 64),
        ({"proc/self/cgroup": V2}, 64),
        ({"proc/self/cgroup": V2, f"{PODS}/mine/cpu.max": "max 100000\n"}, 64),
        ({"proc/self/cgroup": V2, f"{PODS}/mine/cpu.max": "200000 100000\n"}, 2),
        ({"proc/self/cgroup": V2, f"{PODS}/mine/cpu.max": "250000 100000\n"}, 3),
        ({"proc/self/cgroup": V2, f"{PODS}/mine/cpu.max": "10000 100000\n"}, 1),
        # a group above gives less
        (
            {
                "proc/self/cgroup": V2,
                f"{PODS}/mine/cpu.max": "800000 100000\n",
                f"{PODS}/cpu.max": "400000 100000\n",
            },
            4,
        ),
        # a container that sees its own group as the root of all
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "300000 100000\n"}, 3),
        ({"proc/self/cgroup": "0::/../out\n", "sys/fs/cgroup/cpu.max": "300000 100000\n"}, 3),
        # version 2 beside version 1
        (
            {
                "proc/self/cgroup": "0::/mine\n",
                "sys/fs/cgroup/unified/mine/cpu.max": "500000 100000\n",
            },
            5,
        ),
        # version 1
        (
            {
                "proc/self/cgroup": V1,
                "sys/fs/cgroup/cpu/pods/mine/cpu.cfs_quota_us": "150000\n",
                "sys/fs/cgroup/cpu/pods/mine/cpu.cfs_period_us": "50000\n",
            },
            3,
        ),
        (
            {
                "proc/self/cgroup": V1,
                "sys/fs/cgroup/cpu/pods/mine/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/pods/mine/cpu.cfs_period_us": "100000\n",
            },
            64,
        ),
        # a container of version 1: the path is the host's, the mount is its own group
        (
            {
                "proc/self/cgroup": "4:cpuacct,cpu:/docker/1f\n",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "200000\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            2,
        ),
        # another controller's limits are not the processor's
        (
            {
                "proc/self/cgroup": "3:cpuset:/mine\n",
                "sys/fs/cgroup/cpu/mine/cpu.cfs_quota_us": "100000\n",
                "sys/fs/cgroup/cpu/mine/cpu.cfs_period_us": "100000\n",
            },
            64,
        ),
    ],
)
def test_quota(tmp_path, many, contents, count):
    assert cores(files(tmp_path, **contents)) == count


def test_affinity_can_be_less_than_the_quota(tmp_path):
    generous = {
        "proc/self/cgroup": "0::/\n",
        "sys/fs/cgroup/cpu.max": f"{100_000 * (SEEN + 8)} 100000\n",
    }
    assert cores(files(tmp_path, **generous)) == SEEN


def test_this_machine_gives_at_least_one():
    assert 1 <= cores() <= SEEN
