"""What a lesson's runtime must have, and what to do where it lacks something."""

import importlib.metadata
import platform
import re
import sys

from fedcourse.compat import TFF_PINS


def check() -> None:
    """Say at once all that this runtime lacks to run the lessons; nothing where it lacks nothing.

    Raises:
        ImportError: Packages are missing, or Python or the machine is one that TFF does not run on.

    Lesson: 01
    """
    faults = []
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        faults.append(
            f"TFF's runtime is a program for Linux on x86-64, and this is {platform.system()} on "
            f"{platform.machine()}. Use Colab; on Windows WSL 2; on a Mac a Linux container."
        )
    if not (3, 11) <= sys.version_info[:2] <= (3, 13):
        faults.append(f"Python 3.11, 3.12 or 3.13 is needed; this is {platform.python_version()}.")
    packages = dict.fromkeys([*_needed(), *TFF_PINS])
    if lacking := [name for name in packages if not _installed(name)]:
        faults.append(
            f"Not installed here: {', '.join(lacking)}. Colab has most of them; elsewhere install "
            "all, then restart the kernel:\n"
            "    pip install -r course/requirements.txt\n"
            "    pip install --no-deps --ignore-requires-python -r course/requirements-tff.txt"
        )
    if faults:
        raise ImportError("\n".join(["This runtime cannot run the lessons.", *faults]))


def _needed() -> list[str]:
    """Return what the package itself needs, and its extra for what stands on TensorFlow."""
    required = importlib.metadata.requires("fedcourse") or []
    return [
        re.match(r"[\w.-]+", line)[0]
        for line in required
        if "extra ==" not in line or re.search(r"extra == ['\"]tensorflow['\"]", line)
    ]


def _installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
