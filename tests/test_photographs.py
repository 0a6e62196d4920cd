"""Pieces of photographs, taken by simulated cameras."""

from fedcourse import data  # isort: skip  (before TensorFlow)

import numpy as np
import pytest

from fedcourse.data import photographs


def test_pieces_are_the_photographs_and_never_the_same_twice():
    pixels, labels = photographs.pieces()
    assert pixels.shape == (550, 32, 32, 3) and pixels.dtype == np.float32
    assert pixels.min() >= 0 and pixels.max() <= 1
    assert np.bincount(labels).tolist() == [54, 96, 100, 100, 100, 100]
    textured = pixels[pixels.std((1, 2, 3)) > 0.02]  # plain walls and black sky may be alike
    assert len(np.unique(textured.reshape(len(textured), -1), axis=0)) == len(textured) > 400
    again, _ = photographs.pieces()
    other, _ = photographs.pieces(seed=1)
    assert np.array_equal(pixels, again) and not np.array_equal(pixels, other)


def test_pieces_of_a_round_view_lie_in_it():
    pixels, labels = photographs.pieces()
    retina = list(photographs.FILES).index("retina")
    assert pixels[labels == retina][..., 0].mean((1, 2)).min() > 0.25


def test_each_piece_goes_to_one_camera_and_light_is_the_cameras_own():
    taken = photographs.cameras(count=12)
    assert sum(len(labels) for _, labels in taken.values()) == 550
    labels = np.concatenate([labels for _, labels in taken.values()])
    assert np.bincount(labels).tolist() == [54, 96, 100, 100, 100, 100]
    plain = photographs.cameras(count=12, spread=0)
    pieces = {image.tobytes() for image in photographs.pieces()[0]}
    assert {image.tobytes() for pixels, _ in plain.values() for image in pixels} == pieces
    for camera, (pixels, labels) in taken.items():
        assert np.array_equal(labels, plain[camera][1])
        assert np.abs(pixels - plain[camera][0]).max() > 0.01
    ratios = [taken[c][0].mean((0, 1, 2)) / plain[c][0].mean((0, 1, 2)) for c in taken]
    assert np.std(ratios, axis=0).min() > 0.05


def test_written_and_read_from_folders_they_are_the_same(tmp_path):
    taken = photographs.cameras(count=10)
    photographs.write(tmp_path, taken)
    clients = data.from_folders(tmp_path)
    assert clients.client_ids == sorted(taken) and clients.image_shape == (32, 32, 3)
    assert clients.classes == tuple(photographs.FILES)
    for camera, (pixels, labels) in taken.items():
        read, names = data.images_of(clients, camera)
        order = np.argsort(labels, kind="stable")
        assert np.array_equal(names, labels[order])
        assert np.abs(read - pixels[order]).max() <= 0.502 / 255


def test_bad_choices_are_named():
    with pytest.raises(ValueError, match="clients=551, but there are 550 images"):
        photographs.cameras(count=551)
    with pytest.raises(ValueError, match="alpha=0 must be"):
        photographs.cameras(alpha=0)
