"""Render the lessons as web pages in build/site, with the outputs they are stored with."""

import html
import pathlib
import re
import shutil
import tomllib

import nbconvert
import nbformat

ROOT = pathlib.Path(__file__).parents[1]
SITE = ROOT / "build/site"
INDEX = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Image classification by federated learning</title>
<style>
body {{ font: 1.1rem/1.6 sans-serif; max-width: 40rem; margin: 3rem auto; padding: 0 1rem }}
</style>
<h1>Image classification by federated learning</h1>
<p>A course in notebooks. <a href="{source}">Source, and how to run it</a>.</p>
<ol>
{lessons}
</ol>
</html>
"""


def main() -> None:
    """Write a page for each lesson, and one that leads to them."""
    shutil.rmtree(SITE, ignore_errors=True)
    SITE.mkdir(parents=True)
    lessons = []
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        title = re.match(r"# (.*)", notebook.cells[0].source)[1]
        page, _ = nbconvert.HTMLExporter().from_notebook_node(
            notebook, resources={"metadata": {"name": title}}
        )
        page = re.sub(r'href="(\d\d_\w+)\.ipynb', r'href="\1.html', page)
        (SITE / f"{path.stem}.html").write_text(page)
        lessons.append(f'<li><a href="{path.stem}.html">{html.escape(title)}</a></li>')
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    source = project["urls"]["Source"]
    (SITE / "index.html").write_text(INDEX.format(source=source, lessons="\n".join(lessons)))


if __name__ == "__main__":
    main()
