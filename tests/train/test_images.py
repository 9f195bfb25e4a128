from __future__ import annotations

import numpy as np

from train.images import SIDE, decode, encode, seeded_images


def test_images_depend_on_the_seed_alone() -> None:
    images = seeded_images(6, seed=1)

    assert images.shape == (6, SIDE, SIDE, 3)
    assert images.dtype == np.uint8
    assert np.array_equal(images, seeded_images(6, seed=1))
    assert not np.array_equal(images, seeded_images(6, seed=2))


def test_images_differ_from_each_other_in_coarseness() -> None:
    roughness = [np.abs(np.diff(image.astype(int), axis=0)).mean() for image in seeded_images(6, seed=1)]

    assert max(roughness) > 5 * min(roughness)


def test_a_png_of_the_right_size_comes_back_unchanged() -> None:
    image = seeded_images(1, seed=3)[0]

    assert np.array_equal(decode(encode(image)), image)


def test_other_sizes_are_resized() -> None:
    assert decode(encode(seeded_images(1, seed=3, height=40, width=500)[0], "JPEG")).shape == (SIDE, SIDE, 3)
