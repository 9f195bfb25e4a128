"""Images are made ready as the frameworks that models come from do it."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from serving.codecs.image_decoding import load_image, to_input
from serving.store.models import ImagePreprocessing
from train.images import seeded_images

FORMATS = ["JPEG", "PNG"]
MEAN, DEVIATION = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def picture(width: int, height: int) -> Image.Image:
    return Image.fromarray(seeded_images(3, seed=width, height=height, width=width)[2])


def encoded(image: Image.Image, kind: str) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, quality=90)
    return file.getvalue()


def ready(content: bytes, preprocessing: ImagePreprocessing, dtype: str = "float32") -> NDArray[Any]:
    loaded = load_image(content, preprocessing, formats=FORMATS, max_pixels=10**7)
    return to_input(loaded.array[np.newaxis], preprocessing, dtype)[0]


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("size", [(320, 200), (150, 299), (299, 299)])
@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic", "lanczos"])
def test_as_keras_stretches_and_scales(
    keras: Any, tmp_path: Path, kind: str, size: tuple[int, int], interpolation: str
) -> None:
    """`load_img(target_size=…)` and `inception_v3.preprocess_input`, to the bit."""
    file = tmp_path / "picture"
    file.write_bytes(encoded(picture(*size), kind))
    loaded = keras.utils.load_img(file, target_size=(240, 299), interpolation=interpolation)
    expected = keras.applications.inception_v3.preprocess_input(np.array(keras.utils.img_to_array(loaded)))
    preprocessing = ImagePreprocessing(
        width=299, height=240, interpolation=interpolation, scale=1 / 127.5, mean=[1.0] * 3
    )
    assert np.allclose(ready(file.read_bytes(), preprocessing), expected, atol=1e-6)
    pixels = ready(file.read_bytes(), preprocessing.model_copy(update={"scale": 1.0, "mean": []}), "uint8")
    assert np.array_equal(pixels, np.asarray(loaded))


def test_as_keras_swaps_colours(keras: Any) -> None:
    """As `caffe` models of Keras, `vgg16.preprocess_input`: BGR, less the mean of each colour."""
    image = picture(224, 224)
    expected = keras.applications.vgg16.preprocess_input(np.array(image, np.float32))
    preprocessing = ImagePreprocessing(width=224, height=224, channels="BGR", mean=[103.939, 116.779, 123.68])
    assert np.allclose(ready(encoded(image, "PNG"), preprocessing), expected, atol=1e-4)


def torchvision(image: Image.Image, shortest: int, size: int, interpolation: Image.Resampling) -> NDArray[np.float32]:
    """`Compose([Resize(shortest), CenterCrop(size), ToTensor(), Normalize(MEAN, DEVIATION)])`, as its code for Pillow's
    images has it (torchvision/transforms/functional.py, `_compute_resized_output_size` and `center_crop`)."""
    width, height = image.size
    short, long = (width, height) if width <= height else (height, width)
    new_short, new_long = shortest, int(shortest * long / short)
    new = (new_short, new_long) if width <= height else (new_long, new_short)
    image = image.resize(new, interpolation)
    top, left = round((image.height - size) / 2.0), round((image.width - size) / 2.0)
    image = image.crop((left, top, left + size, top + size))
    tensor = np.asarray(image).transpose(2, 0, 1).astype(np.float32) / 255
    return (tensor - np.array(MEAN, np.float32)[:, None, None]) / np.array(DEVIATION, np.float32)[:, None, None]


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("size", [(321, 200), (150, 299), (256, 256), (299, 481), (64, 900)])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_as_torchvision_crops_and_normalises(kind: str, size: tuple[int, int], interpolation: str) -> None:
    content = encoded(picture(*size), kind)
    expected = torchvision(Image.open(io.BytesIO(content)), 256, 224, Image.Resampling[interpolation.upper()])
    preprocessing = ImagePreprocessing(
        width=224,
        height=224,
        layout="NCHW",
        resize="crop",
        shortest=256,
        interpolation=interpolation,
        scale=1 / 255,
        mean=MEAN,
        deviation=DEVIATION,
    )
    found = ready(content, preprocessing)
    assert found.shape == (3, 224, 224)
    assert np.allclose(found, expected, atol=1e-5)


def test_the_sizes_that_torchvision_gives() -> None:
    """By its formulas `Resize(7)` of 10 x 33 is 7 x 23, and `CenterCrop(4)` of 23 begins at 10, half to even."""
    image = Image.fromarray(np.arange(330, dtype=np.int64).reshape(33, 10).astype(np.uint8)).convert("RGB")
    preprocessing = ImagePreprocessing(width=4, height=4, resize="crop", shortest=7, interpolation="nearest")
    expected = image.resize((7, 23), Image.Resampling.NEAREST).crop((2, 10, 6, 14))
    assert np.array_equal(ready(encoded(image, "PNG"), preprocessing, "uint8"), np.asarray(expected))


def test_grey() -> None:
    image = picture(40, 30)
    preprocessing = ImagePreprocessing(width=28, height=28, channels="L", layout="NCHW", scale=1 / 255)
    expected = np.asarray(image.convert("L").resize((28, 28), Image.Resampling.BILINEAR), np.float32) / 255
    assert np.allclose(ready(encoded(image, "PNG"), preprocessing), expected[np.newaxis], atol=1e-6)


def test_half_precision() -> None:
    preprocessing = ImagePreprocessing(width=8, height=8, scale=1 / 255)
    found = ready(encoded(picture(8, 8), "PNG"), preprocessing, "float16")
    assert found.dtype == np.float16
    assert np.allclose(found, np.asarray(picture(8, 8)) / 255, atol=1e-3)
