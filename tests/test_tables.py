"""Tables of images: which column is what, in the forms that people find them in."""

from fedcourse import data  # isort: skip  (before TensorFlow)

import numpy as np
import pandas as pd
import PIL.Image
import pytest

PIXELS = np.uint8([[0, 255, 100, 50], [255, 0, 0, 0], [9, 8, 7, 255]])
ROWS = [
    {"who": who, "what": what, **{f"pixel{k}": int(v) for k, v in enumerate(pixels)}}
    for who, what, pixels in zip("aab", ["cat", "dog", "cat"], PIXELS, strict=True)
]


@pytest.fixture
def kinds(tmp_path):
    """The same table in memory and as files with three kinds of commas."""
    frame = pd.DataFrame(ROWS)
    for name, sep in {"comma": ",", "semicolon": ";", "tab": "\t"}.items():
        frame.to_csv(tmp_path / f"{name}.csv", sep=sep, index=False)
    frame.to_csv(tmp_path / "bom.csv", index=False, encoding="utf-8-sig")
    return [frame, ROWS, *sorted(tmp_path.glob("*.csv"))]


def test_pixels_in_columns(kinds):
    for table in kinds:
        clients = data.from_table(table, label="what", client="who")
        assert clients.client_ids == ["a", "b"] and clients.classes == ("cat", "dog")
        pixels, labels = data.images_of(clients, "a")
        assert np.array_equal(pixels, PIXELS[:2].reshape(-1, 2, 2) / np.float32(255))
        assert labels.tolist() == [0, 1]


def test_a_table_of_digits_without_clients(tmp_path):
    """As in Kaggle's "Digit Recognizer": label, pixel0, …, pixel783."""
    digits = np.random.default_rng(0).integers(0, 256, (30, 784))
    frame = pd.DataFrame(digits, columns=[f"pixel{k}" for k in range(784)])
    frame.insert(0, "label", np.arange(30) % 10)
    frame.to_csv(tmp_path / "train.csv", index=False)
    clients = data.from_table(tmp_path / "train.csv", "label", invert=True)
    assert clients.client_ids == ["everybody"] and clients.image_shape == (28, 28)
    assert clients.classes == tuple("0123456789")
    pixels, labels = data.images_of(clients, "everybody")
    assert np.allclose(pixels, 1 - digits.reshape(-1, 28, 28) / 255, atol=1e-6)
    dealt = data.from_arrays(data.partition.iid(pixels, labels, 5), clients.classes)
    assert len(dealt.client_ids) == 5


def test_pixels_in_one_column():
    rows = [{"emotion": k, "pixels": " ".join(map(str, row))} for k, row in enumerate(PIXELS)]
    clients = data.from_table(rows, "emotion", pixels="pixels")
    assert np.array_equal(
        data.images_of(clients, "everybody")[0], PIXELS.reshape(-1, 2, 2) / np.float32(255)
    )
    colour = data.from_table(rows, "emotion", pixels="pixels", image_shape=(1, 1, 4))
    assert colour.image_shape == (1, 1, 4)
    rows[0]["pixels"] = "1 2"
    with pytest.raises(ValueError, match="column 'pixels' holds from 2 to 4 numbers"):
        data.from_table(rows, "emotion", pixels="pixels")


@pytest.fixture
def patients(tmp_path):
    """As medical sets come: a table of patients and file names without endings."""
    for number in range(4):
        picture = PIL.Image.new("RGB", (6, 4), (60 * number, 0, 0))
        (tmp_path / "scans").mkdir(exist_ok=True)
        picture.save(tmp_path / "scans" / f"ISIC_{number:04}.{'png' if number % 2 else 'jpg'}")
    frame = pd.DataFrame(
        {
            "image_id": [f"ISIC_{number:04}" for number in range(4)],
            "patient": ["007", "7", "007", "8"],
            "dx": ["nv", "mel", "mel", "nv"],
            "age": [1, 2, 3, 4],
        }
    )
    frame.to_csv(tmp_path / "metadata.csv", index=False)
    return tmp_path


def test_files_that_a_column_names(patients):
    clients = data.from_table(
        patients / "metadata.csv", "dx", "patient", file="image_id", folder=patients / "scans"
    )
    assert clients.client_ids == ["007", "7", "8"]  # "007" is not "7"
    assert clients.classes == ("mel", "nv") and clients.image_shape == (4, 6, 3)
    pixels, labels = data.images_of(clients, "007")
    assert labels.tolist() == [1, 0]
    assert pixels.mean((1, 2))[:, 0] == pytest.approx([0, 120 / 255], abs=0.02)
    frame = pd.read_csv(patients / "metadata.csv")
    frame["image_id"] = "scans/" + frame["image_id"]
    frame.to_csv(patients / "other.csv", index=False)  # names relative to the table's own folder
    grey = data.from_table(patients / "other.csv", "dx", file="image_id", size=8, colour=False)
    assert grey.image_shape == (8, 8)


def test_files_that_are_not_there_are_counted_and_named(patients):
    with pytest.raises(ValueError, match=r"4 of 4 pictures of column 'image_id' are not in.*row 1"):
        data.from_table(patients / "metadata.csv", "dx", file="image_id")


def test_labels_in_columns_of_their_own():
    frame = pd.DataFrame({"MEL": [1, 0, 0], "NV": [0, 1, 1]}).join(pd.DataFrame(PIXELS))
    one_hot = data.from_table(frame, ["MEL", "NV"])
    assert one_hot.classes == ("MEL", "NV")
    assert data.images_of(one_hot, "everybody")[1].tolist() == [0, 1, 1]
    frame["NV"] = [1, 1, 0]
    several = data.images_of(data.from_table(frame, ["MEL", "NV"]), "everybody")[1]
    assert several.dtype == np.float32 and several.tolist() == [[1, 1], [0, 1], [0, 0]]
    frame["NV"] = [1, 0.5, 0]
    with pytest.raises(ValueError, match=r"column 'NV' holds np.float64\(0\.5\) in row 2"):
        data.from_table(frame, ["MEL", "NV"])


def test_labels_keep_their_spelling(tmp_path):
    (tmp_path / "x.csv").write_text("label,p\n01,9\nNA,99\nnan,0\n")
    clients = data.from_table(tmp_path / "x.csv", "label")
    assert clients.classes == ("01", "NA", "nan")
    (tmp_path / "x.csv").write_text("label,p\n01,9\n1,99\n")
    with pytest.raises(ValueError, match="the labels '01' and '1' mean the same number"):
        data.from_table(tmp_path / "x.csv", "label")
    assert data.from_table(tmp_path / "x.csv", "label", classes=["01", "1"]).classes == ("01", "1")


def test_labels_from_one_stay_what_they_are():
    clients = data.from_table([{"y": k, "p": 255} for k in (1, 2, 10)], "y")
    assert data.images_of(clients, "everybody")[1].tolist() == [1, 2, 10]
    assert len(clients.classes) == 11


def test_a_table_read_apart_agrees_with_the_classes_of_another():
    train = data.from_table(ROWS, "what", "who")
    rows = [{**ROWS[1], "who": "c"}]
    test = data.from_table(rows, "what", "who", classes=train.classes)
    assert data.images_of(test, "c")[1].tolist() == [1]
    with pytest.raises(ValueError, match="label 'dog' is none of the classes 'cat', 'fox'"):
        data.from_table(rows, "what", "who", classes=["cat", "fox"])


@pytest.mark.parametrize(
    ("table", "options", "message"),
    [
        (ROWS, {"label": "kind"}, "table has no column 'kind'; it has 'who', 'what', 'pixel0'"),
        ([], {"label": "what"}, "has no column 'what'"),
        (pd.DataFrame(ROWS)[:0], {"label": "what"}, "table has no rows"),
        (
            [ROWS[0], {**ROWS[1], "what": None}],
            {"label": "what"},
            "column 'what' is empty in 1 of 2 rows, the first is row 2",
        ),
        ([{**ROWS[0], "who": " "}], {"label": "what", "client": "who"}, "'who' is empty in 1"),
        (ROWS, {"label": "what"}, "pixel column 'who' holds 'a' in row 1; name the pixels'"),
        (
            ROWS,
            {"label": "what", "client": "who", "pixels": ["pixel0", "pixel1"]},
            "2 pixels a row",
        ),
        (ROWS, {"label": "what", "client": "who", "image_shape": (3, 3)}, "has 4 pixels a row"),
        ([{"what": "cat"}], {"label": "what"}, "no columns left for pixels"),
        ([{"y": "a", "p": 300}], {"label": "y"}, "range from 300 to 300"),
        ([{"y": "a", "p": 1}, {"y": "b", "p": 12}], {"label": "y"}, "all but black"),
    ],
)
def test_bad_tables_are_named(table, options, message):
    with pytest.raises(ValueError, match=message):
        data.from_table(table, **options)


def test_a_file_that_is_no_table(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"x\.csv.*no such file"):
        data.from_table(tmp_path / "x.csv", "label")
    for rubbish in (b"", b"\xff\xfe\x00label", b'label,p\n"1,2\n'):
        (tmp_path / "x.csv").write_bytes(rubbish)
        with pytest.raises(ValueError, match=r"x\.csv' is not a CSV table in UTF-8"):
            data.from_table(tmp_path / "x.csv", "label")
