"""The page that tells how a run went."""

from fedcourse import report  # isort: skip  (before TensorFlow)

import base64
import html.parser
import re

import matplotlib.pyplot as plt
import numpy as np
import pytest


class Reader(html.parser.HTMLParser):
    """Collects what is shown, what is referred to, and what each picture says."""

    def __init__(self):
        super().__init__()
        self.words, self.sources, self.said, self.open = [], [], [], []

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.sources += [attrs[name] for name in ("src", "href") if name in attrs]
        self.said += [attrs["alt"]] if tag == "img" else []
        if tag not in ("img", "meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def read(text):
    reader = Reader()
    reader.feed(text)
    assert reader.open == []
    return reader


def svg(source):
    kind, _, content = source.partition(",")
    assert kind == "data:image/svg+xml;base64"
    return base64.b64decode(content).decode()


@pytest.mark.parametrize("classes", [2, 10, 62])
def test_a_page_holds_what_it_was_given(classes):
    names = [f"<script>{k}" for k in range(classes)]
    matrix = np.random.default_rng(0).integers(0, 9, (classes, classes))
    accuracies = {f"<b>client {k}": k / 20 for k in range(20)}
    open_before = plt.get_fignums()
    page = report.page(
        *({"rounds": 3, "data": "<i>"}, [(1, 0.1), (2, 0.4)], [(2, 0.9), (3, 0.7)]),
        *(accuracies, matrix, names),
    )
    reader = read(page)
    words = " ".join(reader.words)
    assert {*names, *accuracies, "<i>"} <= {word.strip() for word in reader.words} | {
        f"<b>client {k}" for k in range(20) if f"<b>client {k} {k / 20:.3f}" in words
    }
    assert "0.475" in words and "0.025" in words  # the mean, and the worst tenth
    assert "client 9 and" not in words  # two of twenty are the worst tenth
    pictures = [svg(source) for source in reader.sources]
    assert len(reader.said) == len(pictures) == 3
    for name in (report.html.escape(name) for name in names):
        assert f">{name}</text>" in pictures[-1]
    for text in (page, *pictures):  # what it refers to is in it; names of namespaces load nothing
        referred = re.findall(r"""(?:href|src)="([^"]*)"|url\((.*?)\)""", text)
        assert all(re.match("#|data:", there or here) for there, here in referred)
        assert not re.search(r"@import|<script|<link|<iframe", text)
    assert "best by validation clients 0.900 after round 2" in reader.said[0]
    assert plt.get_fignums() == open_before


def test_without_rounds_or_scores_there_is_no_curve():
    page = report.page({"a": 1}, [], [], {"x": 1.0}, np.eye(2, dtype=int), ["a", "b"])
    assert len(read(page).said) == 2
    assert (
        len(
            read(report.page({"a": 1}, [(1, 0.5)], [], {"x": 1.0}, np.eye(2, dtype=int), "ab")).said
        )
        == 3
    )


def test_of_many_clients_ten_are_named_in_the_first_line():
    accuracies = {f"client {k}": k / 200 for k in range(200)}
    page = report.page({}, [], [], accuracies, np.eye(2, dtype=int), ["a", "b"])
    said = page[: page.index("</p>")]
    assert "client 0, client 1," in said and "client 9 and 10 more, listed below." in said
    assert "client 10" not in said
    assert "No image is taken for another class." in page


def test_the_most_frequent_confusions_come_first():
    matrix = np.array([[5, 3, 0], [0, 6, 0], [9, 1, 10]])
    words = read(report.page({}, [], [], {"x": 1.0}, matrix, ["ox", "yak", "zebu"])).words
    start = words.index("share of its class") + 1
    assert words[start : start + 12] == [
        *("zebu", "ox", "9", "0.450"),
        *("ox", "yak", "3", "0.375"),
        *("zebu", "yak", "1", "0.050"),
    ]
    assert "Of all 34 images 0.618 are taken for what they are" in " ".join(words)


@pytest.mark.filterwarnings("error")
def test_names_in_any_script_are_text_for_the_browser(capfd):
    names = ["猫", "$\\foo$", "كلب"]
    page = report.page({}, [], [], {"x": 1.0}, np.eye(3, dtype=int), names)
    *_, picture = (svg(source) for source in read(page).sources)
    assert all(f">{name}</text>" in picture for name in names)
    assert capfd.readouterr() == ("", "")


def test_a_page_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    report.write(tmp_path / "page.html", "one")

    def fails(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(report.os, "replace", fails)
    with pytest.raises(OSError, match="No space"):
        report.write(tmp_path / "page.html", "two")
    assert [p.name for p in tmp_path.iterdir()] == ["page.html"]
    assert re.fullmatch("one", (tmp_path / "page.html").read_text())
