"""The drawing boxes in a real browser: JupyterLab and Notebook 7 in headless Chromium."""

import contextlib
import json
import os
import pathlib
import shutil
import subprocess
import sys

import nbformat
import numpy as np
import pytest
from conftest import comes_true, missing

CELL = """
import pathlib
import numpy as np
from fedcourse import drawing
boxes = drawing.Boxes("017")
def read(own):
    pixels, labels = own.images()
    own.readings = [f"{len(drawing)} strokes" if drawing else "" for drawing in own.strokes]
    np.savez("new.npz", pixels=pixels, labels=labels)
    pathlib.Path("new.npz").rename("drawn.npz")
boxes.on_draw(read)
boxes
"""


@pytest.fixture(scope="module")
def jupyter(tmp_path_factory):
    """A server with one notebook: what it says of itself, and the notebook's folder."""
    root = tmp_path_factory.mktemp("jupyter")
    (root / "notebooks").mkdir()
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CELL.strip())])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3"}
    nbformat.write(notebook, root / "notebooks" / "draw.ipynb")
    own = {f"JUPYTER_{name}_DIR": str(root / name.lower()) for name in ("CONFIG", "RUNTIME")}
    own |= {"HOME": str(root), "JUPYTERLAB_SETTINGS_DIR": str(root / "settings")}
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--port=0"]
    with (root / "log").open("w") as log:
        server = subprocess.Popen(
            [*command, f"--ServerApp.root_dir={root / 'notebooks'}"],
            cwd=root,
            env=os.environ | own,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        info = {}

        def is_there():
            with contextlib.suppress(ValueError):  # not yet written, or half of it
                (file,) = (root / "runtime").glob("jpserver-*.json")
                info.update(json.loads(file.read_text()))
            return info or server.poll() is not None

        assert comes_true(is_there) and info, (root / "log").read_text()
        yield info, root / "notebooks"
    finally:
        server.terminate()  # with its kernels
        server.wait(60)


@pytest.fixture
def browser():
    names = ("chromium", "chromium-browser", "google-chrome")
    chromium = next(filter(None, map(shutil.which, names)), None)
    driver = shutil.which("chromedriver")
    if not (chromium and driver):
        missing("Chromium and its driver are not installed: apt-get install chromium-driver")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in ("headless=new", "no-sandbox", "disable-dev-shm-usage", "window-size=1300,900"):
        options.add_argument(f"--{argument}")
    opened = webdriver.Chrome(options, webdriver.ChromeService(driver))
    yield opened
    opened.quit()


def found(browser, selector, count=1):
    """The elements, as soon as there are so many."""
    seen = []

    def there():
        seen[:] = browser.find_elements("css selector", selector)
        return len(seen) >= count

    if not comes_true(there, 60):
        raise AssertionError(f"no {selector} in: {browser.find_element('tag name', 'body').text}")
    return seen


@pytest.fixture(params=["lab/tree", "notebooks"], ids=["lab", "notebook7"])
def boxes(jupyter, browser, request):
    """The canvases of the boxes, shown by running the notebook's cell."""
    from selenium.common.exceptions import WebDriverException
    from selenium.webdriver import ActionChains, Keys

    server, folder = jupyter
    with contextlib.suppress(FileNotFoundError):
        (folder / "drawn.npz").unlink()
    browser.get(f"{server['url']}{request.param}/draw.ipynb?reset&token={server['token']}")

    def clicked():
        with contextlib.suppress(WebDriverException):  # it is still being put together
            browser.find_element("css selector", ".jp-CodeCell .cm-content").click()
            return True

    assert comes_true(clicked, 60)
    canvases = ".fedcourse-box canvas"
    for _ in range(10):  # the kernel may still be starting
        ActionChains(browser).key_down(Keys.CONTROL).send_keys(Keys.ENTER).key_up(
            Keys.CONTROL
        ).perform()
        if comes_true(lambda: len(browser.find_elements("css selector", canvases)) == 3, 6):
            break
    shown = found(browser, canvases, 3)
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", shown[0])
    return shown, folder / "drawn.npz"


def draw(browser, canvas, points):
    """Draw with the mouse; points from -1 to 1 about the canvas's middle."""
    from selenium.webdriver import ActionChains

    half = canvas.size["width"] / 2
    chain = ActionChains(browser, duration=40)
    last = None
    for x, y in points:
        place = round(x * half), round(y * half)
        if last is None:
            chain.move_to_element_with_offset(canvas, *place).click_and_hold()
        else:
            chain.move_by_offset(place[0] - last[0], place[1] - last[1])
        last = place
    chain.release().perform()


def touch(browser, canvas, points, resting=()):
    """Draw with a finger, while others may rest on the canvas and tremble."""
    edge = browser.execute_script(
        "const r = arguments[0].getBoundingClientRect(); return [r.x, r.y, r.width]", canvas
    )

    def place(number, x, y):
        x, y = (edge[k] + edge[2] * (each + 1) / 2 for k, each in enumerate((x, y)))
        return {"x": x, "y": y, "id": number}

    def send(kind, fingers):
        touches = [place(number, *at) for number, at in enumerate(fingers)]
        browser.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": kind, "touchPoints": touches})

    send("touchStart", points[:1])
    if resting:
        send("touchStart", [points[0], *resting])
    for step, point in enumerate(points[1:], 1):
        send("touchMove", [point, *((x, y + 0.1 * (step % 2)) for x, y in resting)])
    send("touchEnd", [])


def arrived(file, count):
    """What Python has, once it has so many images."""
    held = {}

    def there():
        with contextlib.suppress(FileNotFoundError, ValueError, OSError):
            held.update(np.load(file))
        return len(held.get("labels", ())) == count

    assert comes_true(there, 60), held.get("labels")
    return held["pixels"], held["labels"].tolist()


@pytest.mark.slow
def test_what_is_drawn_arrives_in_python_and_is_read(browser, boxes):
    canvases, file = boxes
    draw(browser, canvases[1], [(0, -0.8), (0, 0), (0, 0.8)])
    pixels, labels = arrived(file, 1)
    assert labels == [1] and pixels.shape == (1, 28, 28)
    assert (1 - pixels[0])[:, 13:15].sum() > 0.7 * (1 - pixels[0]).sum()  # an upright line
    output = found(browser, ".fedcourse-box output", 3)[1]
    assert comes_true(lambda: output.text == "1 strokes", 30)

    touch(browser, canvases[2], [(-0.7, -0.8), (0, -0.8), (0.7, -0.8)])
    draw(browser, canvases[2], [(0.7, -0.8), (-0.2, 0.8)])
    assert comes_true(lambda: found(browser, ".fedcourse-box output", 3)[2].text == "2 strokes", 30)
    pixels, labels = arrived(file, 2)
    assert labels == [1, 2]
    widths = np.array([np.ptp(np.flatnonzero(row < 0.5)) for row in pixels[1] if row.min() < 0.5])
    assert widths[:2].min() > 10 and widths[-2:].max() < 6  # a bar, and at its right end a foot

    found(browser, ".fedcourse-box button", 3)[1].click()
    pixels, labels = arrived(file, 1)
    assert labels == [2] and comes_true(lambda: output.text == "", 30)
    browser.find_element("xpath", "//button[text()='wipe all']").click()
    assert arrived(file, 0)[1] == []

    touch(browser, canvases[0], [(-0.8, 0), (0, 0), (0.8, 0)], resting=[(0.3, 0.8)])
    pixels, labels = arrived(file, 1)
    assert labels == [0] and set(np.nonzero(pixels[0] < 0.5)[0]) <= {12, 13, 14, 15}  # a flat line

    if folder := os.environ.get("FEDCOURSE_SCREENSHOTS"):
        browser.save_screenshot(str(pathlib.Path(folder) / f"{browser.title}.png"))
