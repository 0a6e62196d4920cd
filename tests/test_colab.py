"""Every lesson as on Colab: its own Setup cell, in a kernel with the packages Colab has.

First all of it with its quick knobs; then, in the same kernel, each turned setting from Knobs on.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time

import jupyter_client
import nbclient
import nbformat
import psutil
import pytest
from conftest import missing, tool

pytestmark = pytest.mark.colab

ROOT = pathlib.Path(__file__).parents[1]
LESSONS = sorted((ROOT / "notebooks").glob("*.ipynb"))
REQUIREMENTS = ROOT / "tests" / "colab" / "requirements.txt"

COLAB = ROOT / "build" / "colab"
PRISTINE = COLAB / "pristine"
RECIPE = COLAB / "recipe"  # what PRISTINE was made from, once it is complete
# Each lesson gets a copy of PRISTINE, of links: seconds. Two lessons at a time need two.
RUNTIME = COLAB / f"runtime-{os.environ.get('PYTEST_XDIST_WORKER', 'alone')}"
PYTHON = RUNTIME / "bin" / "python"

SETUP_ADDS = {
    "tensorflow-federated": "tensorflow_federated",
    "tensorflow-privacy": "tensorflow_privacy",
    "dp-accounting": "dp_accounting",
    "tensorflow-model-optimization": "tensorflow_model_optimization",
    "fedcourse": "fedcourse",
}
NOTE = "Note: you may need to restart the kernel to use updated packages."  # IPython, always


# --- the replica ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pristine():
    python, version = find_python()
    if python is None:
        missing("Colab has Python 3.13, and this machine has none that runs (PATH, pyenv)")
    recipe = hashlib.sha256(f"{version} {REQUIREMENTS.read_text()}".encode()).hexdigest()
    COLAB.mkdir(parents=True, exist_ok=True)
    with open(COLAB / "lock", "w") as lock:  # of two workers, one builds
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not RECIPE.exists() or RECIPE.read_text() != recipe:
            build(python)
            RECIPE.write_text(recipe)
    yield PRISTINE
    shutil.rmtree(RUNTIME, ignore_errors=True)


def find_python():
    """Return a Python 3.13 and what it says of itself; (None, "") without one.

    Each candidate has to run: pyenv puts a `python3.13` on the PATH that only says there is none.
    """
    folders = [pathlib.Path(folder) for folder in os.environ["PATH"].split(os.pathsep)]
    candidates = [pathlib.Path(sys.executable), *(folder / "python3.13" for folder in folders)]
    for root in (os.environ.get("PYENV_ROOT"), output_of("pyenv", "root"), "~/.pyenv"):
        versions = pathlib.Path(root or "~/.pyenv").expanduser() / "versions"
        candidates += sorted(versions.glob("3.13*/bin/python"), reverse=True)
    ask = (
        "import sys, venv, ensurepip; print(sys.version.split()[0], sys.base_prefix, sys.abiflags)"
    )
    for candidate in candidates:
        version = output_of(candidate, "-c", ask)
        if version.startswith("3.13.") and not version.endswith(" t"):  # t: free-threaded
            return candidate, version
    return None, ""


def output_of(*command):
    """Return what a command prints, stripped; "" if it fails or does not exist."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()


def build(python):
    """Make PRISTINE; an unfinished or outdated one starts over."""
    RECIPE.unlink(missing_ok=True)
    shutil.rmtree(PRISTINE, ignore_errors=True)
    subprocess.run([python, "-m", "venv", PRISTINE], check=True)
    command = [PRISTINE / "bin" / "python", "-m", "pip", "install", "--quiet", "--no-deps"]
    with tempfile.TemporaryFile() as log:
        done = subprocess.run(
            [*command, "-r", REQUIREMENTS], stdout=log, stderr=log, env=environment()
        )
        log.seek(0)
        assert done.returncode == 0, log.read().decode()[-2000:]
    assert installed(PRISTINE) == pins()


def pins():
    """Return {package: version} of the packages that Colab preinstalls."""
    lines = [line.split("#")[0].strip() for line in REQUIREMENTS.read_text().splitlines()]
    return {normal(name): version for name, version in (x.split("==") for x in lines if x)}


def installed(runtime=RUNTIME):
    """Return {package: version} of an environment, as `pip freeze --all` has it."""
    listing = subprocess.run(
        [runtime / "bin" / "python", "-m", "pip", "list", "--format", "json"],
        stdout=subprocess.PIPE,
        check=True,
        env=environment(),
    )
    return {normal(row["name"]): row["version"] for row in json.loads(listing.stdout)}


def normal(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def environment(**variables):
    """Return this process's environment without what belongs to its own Python, plus `variables`.

    What belongs to the machine stays: where packages come from, proxies, certificates. (Where
    ipykernel finds PYTEST_CURRENT_TEST, it does not show what C++ writes to stderr. Colab does.)
    """
    own = ("PYTHON", "PYTEST", "VIRTUAL_ENV", "FEDCOURSE", "TF_", "KERAS", "MPL", "IPY", "JUPYTER")
    own += ("JPY", "GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_CONFIG")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(own)}
    kept["PATH"] = f"{RUNTIME / 'bin'}{os.pathsep}{kept['PATH']}"
    return kept | variables


# --- a runtime for one lesson ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    """A repository with one commit: the files of this checkout as they are now."""
    if not (ROOT / ".git").exists():
        missing("the course to install is taken from a git checkout, and this is none")
    repository = tmp_path_factory.mktemp("course")

    def git(*arguments, cwd):
        command = ["git", "-c", "user.name=test", "-c", "user.email=test@localhost"]
        command += ["-c", "commit.gpgsign=false", *arguments]
        return subprocess.run(
            command, cwd=cwd, env=environment(), check=True, stdout=subprocess.PIPE, text=True
        ).stdout

    listing = git("ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=ROOT)
    for name in filter(None, set(listing.split("\0"))):
        if (ROOT / name).is_file():  # not one deleted since the last commit
            (repository / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, repository / name)
    git("init", "--quiet", cwd=repository)
    git("add", "--all", "--force", cwd=repository)
    git("commit", "--quiet", "--message", "The course as it is in this checkout", cwd=repository)
    return repository


@pytest.fixture
def runtime(pristine):
    """A fresh copy of the environment: no TFF, no fedcourse."""
    shutil.rmtree(RUNTIME, ignore_errors=True)
    shutil.copytree(pristine, RUNTIME, symlinks=True, copy_function=os.link)
    assert installed() == pins()
    find = "import importlib.util as u, sys; print([m for m in sys.argv[1:] if u.find_spec(m)])"
    assert output_of(PYTHON, "-c", find, *SETUP_ADDS.values()) == "[]"
    return RUNTIME


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda path: path.stem)
def test_lesson(lesson, runtime, course, tmp_path):
    content = tmp_path / "content"  # Colab's /content: no checkout, not even the notebook
    content.mkdir()
    cache = tmp_path / "cache"
    notebook = nbformat.read(lesson, as_version=4)
    setup = notebook.cells[cell_with(notebook, "@title Setup")]
    address = re.search(r'COURSE = "(https://.+)"', setup.source)[1]
    variables = {
        "FEDCOURSE_CACHE": str(cache),
        "IPYTHONDIR": str(tmp_path / "ipython"),
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",  # or a remark on frozen modules at every start
        "TF2_BEHAVIOR": "1",  # Colab has this and the next
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        "GIT_CONFIG_COUNT": "1",  # the course, from this checkout
        "GIT_CONFIG_KEY_0": f"url.{course.as_uri()}.insteadOf",
        "GIT_CONFIG_VALUE_0": address,
    }
    notebooks = tool("notebooks")
    knobs, cell = notebooks.knobs_of(notebook)
    own, (quick, *several) = cell.source, notebooks.settings_of(notebook)
    client = kernel_client(notebook, tmp_path)
    try:
        with client.setup_kernel(env=environment(**variables), cwd=content, cleanup_kc=True):
            kernel = psutil.Process(client.km.provisioner.pid)
            cell.source = notebooks.turned(own, quick)
            problems = execute(client, range(len(notebook.cells)), quick)
            added = installed()
            for settings in several:
                cell.source = notebooks.turned(own, settings)
                problems += execute(client, range(knobs, len(notebook.cells)), settings)
            assert kernel.is_running()
        left = processes_of(cache, patience=60)
    finally:
        for process in processes_of(cache):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()

    assert commit_of(content / "course") == commit_of(course)
    assert added.items() >= pins().items(), "Setup changed what Colab preinstalls"
    assert added.keys() - pins().keys() == SETUP_ADDS.keys()
    assert installed() == added
    assert said_by(setup) == ""
    assert not problems
    assert not left, "these outlived the kernel"


def kernel_client(notebook, folder):
    """Return what drives one kernel of RUNTIME from here."""
    spec = {
        "argv": [str(PYTHON), "-m", "ipykernel_launcher", "-f", "{connection_file}"],
        "display_name": "Colab",
        "language": "python",
    }
    (folder / "kernels" / "colab").mkdir(parents=True)
    (folder / "kernels" / "colab" / "kernel.json").write_text(json.dumps(spec))
    specs = jupyter_client.kernelspec.KernelSpecManager(kernel_dirs=[str(folder / "kernels")])
    manager = jupyter_client.AsyncKernelManager(kernel_name="colab", kernel_spec_manager=specs)
    return nbclient.NotebookClient(
        notebook,
        km=manager,
        timeout=1800,
        coalesce_streams=True,
        record_timing=False,
        extra_arguments=["--log-level=40"],  # errors; less would warn of TCP at every start
    )


def cell_with(notebook, text):
    """Return the index of the first code cell whose source has `text`."""
    return next(
        index
        for index, cell in enumerate(notebook.cells)
        if cell.cell_type == "code" and text in cell.source
    )


def execute(client, indices, settings):
    """Run cells, in which an error is an exception here; return what they wrote to stderr."""
    problems = []
    for index in indices:
        cell = client.nb.cells[index]
        client.execute_cell(cell, index)
        problems += [
            f"cell {index} with {settings}: {output.text}"
            for output in cell.get("outputs", [])
            if output.output_type == "stream" and output.name == "stderr"
        ]
    return problems


def said_by(setup):
    """Return what the Setup cell printed, but for IPython's note and this machine's own matters."""
    printed = "".join(output.get("text", "") for output in setup.outputs)
    lines = re.sub(r"\x1b\[[0-9;]*m", "", printed).splitlines()
    usual = (NOTE, "WARNING: Location ")  # the second: an index of pip's that has no such package
    return "\n".join(line for line in lines if line.strip() and not line.startswith(usual))


def commit_of(repository):
    return output_of("git", "-C", repository, "rev-parse", "HEAD")


def processes_of(cache, patience=0.0):
    """Return the processes that this lesson's kernel started and that still run."""
    deadline = time.monotonic() + patience
    while True:
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get("FEDCOURSE_CACHE") == str(cache):
                    found.append(process)
            except psutil.Error:
                continue  # of another user, or gone
        if not found or time.monotonic() > deadline:
            return found
        time.sleep(0.2)
