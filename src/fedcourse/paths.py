"""Where the course keeps things between runs."""

import os
import pathlib


def cache_folder(cache_dir: str | os.PathLike | None = None) -> pathlib.Path:
    """Name the folder where downloads and prepared data are kept.

    Args:
        cache_dir: A folder, or None for the environment variable FEDCOURSE_CACHE, else
            ~/.cache/fedcourse.

    Returns:
        The folder's path. It may not exist yet.

    Lesson: 01
    """
    chosen = cache_dir or os.environ.get("FEDCOURSE_CACHE") or "~/.cache/fedcourse"
    return pathlib.Path(chosen).expanduser()
