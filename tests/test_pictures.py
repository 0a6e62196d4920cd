"""Picture files of every mode and depth, folders of them, and what is said of the rest."""

from fedcourse import data  # isort: skip  (before TensorFlow)

import itertools

import numpy as np
import PIL.Image
import pytest

from fedcourse.data import pictures

RAMP = np.tile(np.linspace(0, 1, 16, dtype=np.float32), (12, 1))


def save(image, path, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)
    return path


def draw(folder, name, shade, size=(28, 28), mode="L"):
    return save(PIL.Image.new(mode, size, shade), folder / name)


# --- one picture ----------------------------------------------------------------------------------


def ramp(mode):
    """A picture of a mode that goes from black to white."""
    levels = np.uint8(np.rint(RAMP * 255))
    if mode.startswith("I"):
        deep = np.uint16(np.rint(RAMP * 65535))
        return PIL.Image.fromarray(deep.astype(">u2") if mode == "I;16B" else deep)
    if mode == "F":
        return PIL.Image.fromarray(RAMP)
    if mode == "1":
        return PIL.Image.fromarray(RAMP > 0.5)
    grey = PIL.Image.fromarray(levels)
    if mode == "LAB":  # lightness in L alone
        middle = PIL.Image.new("L", grey.size, 128)
        return PIL.Image.merge("LAB", (grey, middle, middle))
    return (
        grey.convert("RGB").convert(mode)
        if mode in ("HSV", "CMYK", "YCbCr")
        else grey.convert(mode)
    )


@pytest.mark.parametrize(
    ("mode", "ending"),
    [
        *itertools.product(["1", "L", "LA", "P", "RGB", "RGBA", "I;16"], ["png", "tif"]),
        *itertools.product(["CMYK", "LAB", "F", "I;16B", "PA", "RGBX"], ["tif"]),
        *itertools.product(["L", "RGB", "CMYK"], ["jpg"]),
        *itertools.product(["L", "RGB", "RGBA", "P"], ["webp", "gif"]),
        *itertools.product(["1", "L", "RGB", "I;16"], ["ppm"]),
        *itertools.product(["1", "L", "P", "RGB"], ["bmp", "pcx"]),
        *itertools.product(["L", "RGB", "RGBA", "I;16"], ["jp2"]),
        *itertools.product(["RGB", "RGBA"], ["dds"]),
    ],
)
def test_a_ramp_from_black_to_white_is_one_in_every_mode(tmp_path, mode, ending):
    try:
        path = save(
            ramp(mode),
            tmp_path / f"ramp.{ending}",
            **{"quality": 100} if ending in ("jpg", "webp") else {},
        )
    except (OSError, ValueError) as error:
        pytest.skip(f"Pillow does not write {mode} as {ending}: {error}")
    expected = RAMP > 0.5 if mode == "1" else RAMP
    grey = pictures.read(path)
    assert grey.shape == (12, 16) and grey.dtype == np.float32
    slack = 0.09 if mode == "LAB" or ending in ("jpg", "webp") else 1e-5 if "16" in mode else 0.004
    assert np.abs(grey - expected).max() <= slack
    colour = pictures.read(path, colour=True)
    assert colour.shape == (*grey.shape, 3)
    assert np.ptp(colour, axis=2).max() <= (
        0.09 if ending in ("jpg", "webp") or mode == "LAB" else 0.01
    )
    small = pictures.read(path, (6, 4))
    assert small.shape == (6, 4) and 0 <= small.min() < 0.3 and 0.7 < small.max() <= 1


@pytest.mark.parametrize("mode", sorted({*PIL.Image.MODES} - {"LAB"}))
def test_every_mode_in_memory_is_read_or_refused_by_name(tmp_path, mode, monkeypatch):
    """Also those that no common file type holds."""
    image = PIL.Image.new(mode, (3, 2))
    (tmp_path / "x").touch()
    monkeypatch.setattr(PIL.Image, "open", lambda file: image)
    assert pictures.read(tmp_path / "x", (2, 3)).shape == (2, 3)
    assert pictures.look(tmp_path / "x")[0] == (2, 3)


def test_a_16_bit_picture_keeps_shades_that_8_bits_have_not(tmp_path):
    deep = np.uint16([[1000, 1001]])
    path = save(PIL.Image.fromarray(deep), tmp_path / "x.png")
    assert pictures.read(path) == pytest.approx(deep / 65535, abs=1e-7)


def test_shades_without_an_agreed_white_are_refused(tmp_path):
    wide = save(PIL.Image.fromarray(np.int32([[0, 2**20]])), tmp_path / "wide.tif")
    with pytest.raises(ValueError, match=r"wide\.tif.*32-bit integers go from 0 to 1048576"):
        pictures.read(wide)
    hot = save(PIL.Image.fromarray(np.float32([[0, 273.15]])), tmp_path / "hot.tif")
    with pytest.raises(ValueError, match=r"hot\.tif.*floats go from 0 to 273"):
        pictures.read(hot)


TURNS = {2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE"}
TURNS |= {6: "ROTATE_270", 7: "TRANSVERSE", 8: "ROTATE_90"}  # by the EXIF standard, 2.3


@pytest.mark.parametrize("ending", ["jpg", "png", "tif", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_heeded(tmp_path, orientation, ending):
    exif = PIL.Image.Exif()
    exif[274] = orientation
    stored = PIL.Image.fromarray(np.uint8(np.arange(32 * 16).reshape(16, 32) // 2))
    path = save(stored, tmp_path / f"x.{ending}", exif=exif)
    turn = {k: getattr(PIL.Image.Transpose, name) for k, name in TURNS.items()}
    seen = stored.transpose(turn[orientation]) if orientation > 1 else stored
    seen = np.asarray(seen) / 255
    assert pictures.look(path)[0] == seen.shape == ((32, 16) if orientation > 4 else (16, 32))
    assert np.abs(pictures.read(path) - seen).max() < 0.02


def test_what_is_transparent_is_white(tmp_path):
    for mode, clear in (("RGBA", (0, 0, 0, 0)), ("LA", (0, 0))):
        assert pictures.read(draw(tmp_path, f"{mode}.png", clear, mode=mode)).min() == 1
    keyed = PIL.Image.new("P", (2, 2), 0)
    assert pictures.read(save(keyed, tmp_path / "keyed.png", transparency=0)).min() == 1


def test_of_several_frames_the_first_is_read(tmp_path):
    frames = [PIL.Image.new("L", (4, 4), shade) for shade in (51, 255)]
    path = save(frames[0], tmp_path / "film.gif", save_all=True, append_images=frames[1:])
    assert pictures.read(path).mean() == pytest.approx(0.2, abs=0.01)


def test_colour_is_seen_without_reading(tmp_path):
    looks = {
        mode: pictures.look(draw(tmp_path, f"{mode.replace(';', '')}.tif", None or 0, mode=mode))[1]
        for mode in ("1", "L", "I;16", "F", "RGB", "CMYK")
    }
    assert [mode for mode, colour in looks.items() if colour] == ["RGB", "CMYK"]
    grey, red = (PIL.Image.new("P", (2, 2)) for _ in range(2))
    grey.putpalette([9, 9, 9])
    red.putpalette([9, 0, 0])
    assert [pictures.look(save(i, tmp_path / "p.png"))[1] for i in (grey, red)] == [False, True]


def test_a_huge_picture_is_refused_by_name(tmp_path, monkeypatch):
    path = draw(tmp_path, "huge.png", 0, size=(60, 60))
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(ValueError, match=r"huge\.png.*MAX_IMAGE_PIXELS"):
        pictures.read(path)
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 2000)  # Pillow would warn
    assert pictures.read(path).shape == (60, 60)


@pytest.mark.parametrize("ending", ["png", "jpg", "tif", "gif", "webp", "bmp", "jp2"])
def test_a_broken_picture_is_named(tmp_path, ending):
    whole = save(PIL.Image.effect_noise((64, 64), 50), tmp_path / f"x.{ending}").read_bytes()
    for kept in (0, 10, len(whole) // 2):
        (tmp_path / f"x.{ending}").write_bytes(whole[:kept])
        with pytest.raises(ValueError, match=rf"x\.{ending}' is not an image that can be read"):
            pictures.read(tmp_path / f"x.{ending}")


def test_a_file_that_is_not_there():
    with pytest.raises(FileNotFoundError):
        pictures.read("nowhere.png")


# --- folders --------------------------------------------------------------------------------------


def test_folders_with_numbers_as_labels(tmp_path, capsys):
    draw(tmp_path / "ann/3", "b.png", 0)
    draw(tmp_path / "ann/3", "a.PNG", 255, size=(60, 40))
    draw(tmp_path / "ann/12", "photo.jpg", (51, 51, 51), size=(300, 200), mode="RGB")
    draw(tmp_path / "bob/3", "clear.webp", (0, 0, 0, 0), mode="RGBA")  # transparent
    (tmp_path / ".git/3").mkdir(parents=True)
    clients = data.from_folders(tmp_path, size=28, colour=False)
    assert capsys.readouterr().out == ""
    assert clients.client_ids == ["ann", "bob"] and clients.image_shape == (28, 28)
    assert clients.classes == tuple(map(str, range(13)))
    pixels, labels = data.images_of(clients, "ann")
    assert labels.tolist() == [12, 3, 3]
    assert pixels.mean((1, 2)).tolist() == pytest.approx([0.2, 1, 0], abs=0.01)
    assert data.images_of(clients, "bob")[0].min() == 1  # paper
    inverted = data.from_folders(tmp_path, size=28, colour=False, invert=True)
    pixels, _ = data.images_of(inverted, "ann")
    assert pixels.mean((1, 2)).tolist() == pytest.approx([0.8, 0, 1], abs=0.01)


def test_folders_with_words_as_labels(tmp_path):
    draw(tmp_path / "ann/dog", "1.png", 0)
    draw(tmp_path / "bob/cat", "1.png", 0)
    draw(tmp_path / "bob/2", "1.png", 0)
    clients = data.from_folders(tmp_path)
    assert clients.classes == ("2", "cat", "dog")
    assert data.images_of(clients, "ann")[1].tolist() == [2]
    assert data.images_of(clients, "bob")[1].tolist() == [0, 1]


def test_size_and_colour_are_those_of_the_pictures_or_as_given(tmp_path):
    draw(tmp_path / "ann/cat", "1.png", 9, size=(6, 4))
    assert data.from_folders(tmp_path).image_shape == (4, 6)
    draw(tmp_path / "ann/dog", "2.png", (9, 0, 0), size=(6, 4), mode="RGB")
    assert data.from_folders(tmp_path).image_shape == (4, 6, 3)
    assert data.from_folders(tmp_path, colour=False).image_shape == (4, 6)
    assert data.from_folders(tmp_path, size=(2, 5)).image_shape == (2, 5, 3)
    draw(tmp_path / "bob/dog", "3.png", 0, size=(4, 6))
    with pytest.raises(
        ValueError, match=r"'1\.png' is 4 × 6 pixels, '3\.png' is 6 × 4; give size="
    ):
        data.from_folders(tmp_path)
    for size in (0, (1, 2, 3), "32", (0, 4)):
        with pytest.raises(ValueError, match="must be a number of pixels"):
            data.from_folders(tmp_path, size=size)


def test_a_name_has_one_number_in_parts_that_are_read_apart(tmp_path):
    for part, names in {"train": "cat dog fox", "test": "cat fox", "validation": "owl"}.items():
        for name in names.split():
            draw(tmp_path / part / "ann" / name, "1.png", 0)
            draw(tmp_path.with_name("flat") / part / name, "1.png", 0)
    parts = [data.from_folders(tmp_path / part) for part in ("train", "test", "validation")]
    assert {part.classes for part in parts} == {("cat", "dog", "fox", "owl")}
    assert data.images_of(parts[1], "ann")[1].tolist() == [0, 2]
    flat = data.from_folders(tmp_path.with_name("flat") / "test", layout="label")
    assert flat.classes == ("cat", "dog", "fox", "owl")
    for folder in (tmp_path, tmp_path.with_name("flat")):
        with pytest.raises(ValueError, match="parts of the data rather than clients"):
            data.from_folders(folder)


def test_other_layouts(tmp_path):
    draw(tmp_path / "cat/ann", "1.png", 0)
    draw(tmp_path / "dog/bob", "1.png", 0)
    clients = data.from_folders(tmp_path, layout="label/client")
    assert clients.client_ids == ["ann", "bob"] and clients.classes == ("cat", "dog")
    draw(tmp_path / "flat/cat", "1.png", 0)
    draw(tmp_path / "flat/dog", "1.png", 0)
    assert data.from_folders(tmp_path / "flat", layout="label").client_ids == ["everybody"]
    with pytest.raises(ValueError, match="layout='dogs' is none of 'client/label'"):
        data.from_folders(tmp_path, layout="dogs")


def test_folders_without_a_client_level_are_told_what_to_do(tmp_path):
    draw(tmp_path / "cat", "1.png", 0)
    with pytest.raises(ValueError, match=r'one folder deep.*layout="label".*data\.partition'):
        data.from_folders(tmp_path)


def test_what_is_left_out_is_said(tmp_path, capsys):
    draw(tmp_path / "ann/cat", "1.png", 0)
    draw(tmp_path / "ann/cat/more", "2.png", 0)
    draw(tmp_path / "ann", "3.png", 0)
    (tmp_path / "ann/notes.txt").touch()
    (tmp_path / "bob/cat").mkdir(parents=True)
    for noise in ("__MACOSX/cat", ".thumbs/cat"):
        draw(tmp_path / noise, "4.png", 0)
    assert data.from_folders(tmp_path).client_ids == ["ann"]
    said = capsys.readouterr().out.splitlines()
    assert said == [
        "Left out, Pillow reads no such file: ann/notes.txt (1 in all)",
        "Left out, not at <client>/<label>/<picture>: ann/3.png, ann/cat/more/2.png (2 in all)",
        "Left out, no pictures: bob (1 in all)",
    ]


def test_names_in_any_script(tmp_path):
    for client, label in (("안나", "кот"), ("o'neil", "犬"), ("zoë", "кот")):
        draw(tmp_path / client / label, "ñ.png", 0)
    draw(tmp_path / "zoe\u0308" / "犬", "1.png", 0)  # the same zoë, as a Mac spells her
    clients = data.from_folders(tmp_path)
    assert clients.client_ids == ["o'neil", "zoë", "안나"] and clients.classes == ("кот", "犬")
    assert sorted(data.images_of(clients, "zoë")[1].tolist()) == [0, 1]


def test_bad_folders_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such folder"):
        data.from_folders(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="there is nothing in it"):
        data.from_folders(tmp_path)
    (tmp_path / "ann/3").mkdir(parents=True)
    (tmp_path / "ann/3/x.txt").touch()
    with pytest.raises(ValueError, match=r"what lies there is 'ann/3/x\.txt'"):
        data.from_folders(tmp_path)
    (tmp_path / "ann/3/x.png").write_bytes(b"not a picture")
    with pytest.raises(ValueError, match=r"x\.png' is not an image that can be read"):
        data.from_folders(tmp_path)
    for name in ("07", "7"):
        draw(tmp_path / "ann" / name, "1.png", 0)
    with pytest.raises(ValueError, match="the labels '07' and '7' mean the same number"):
        data.from_folders(tmp_path)
    with pytest.raises(ValueError, match="label '07' is none of the classes '3', '4'"):
        data.from_folders(tmp_path, classes=["3", "4"])
