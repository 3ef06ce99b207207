"""Run lengths, pickles of checkpoints, and pictures to predict: bytes that somebody changed."""

from __future__ import annotations

import collections
import io
import pickle
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st
from PIL import Image

from image_processing.results import decode_mask, encode_mask
from image_processing.run_lengths import compressed_run_lengths
from modeling_maskformer.checkpoints.unpickle import read_checkpoint
from modeling_maskformer.inference.inputs import read_picture

from .values import changed_bytes, odd_values


def _pickles() -> list[bytes]:
    arrays = {"a": np.zeros((2, 3), np.float32), "b": np.ones(4, np.float16), "c": np.float32(2)}
    contents: list[Any] = [
        {"model": arrays},
        {"model": collections.OrderedDict(arrays), "author": "x", "n": [1, (2,)]},
    ]
    return [pickle.dumps(content, protocol) for content in contents for protocol in (0, 1, 2, 4, 5)]


def _pictures() -> list[bytes]:
    found = []
    picture = Image.fromarray(np.arange(300, dtype=np.uint8).reshape(10, 10, 3))
    for name, image in (
        *(("PNG", picture.convert(mode)) for mode in ("RGB", "L", "P", "1", "RGBA", "LA")),
        *((name, picture) for name in ("JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM")),
        ("JPEG", picture.convert("CMYK")),
        ("TIFF", Image.new("F", (5, 4))),
        ("PNG", Image.new("I;16", (5, 4))),
        ("EPS", picture),
    ):
        stream = io.BytesIO()
        image.save(stream, name)
        found.append(stream.getvalue())
    return found


def _run_lengths() -> list[bytes]:
    rng = np.random.default_rng(0)
    masks = [rng.random((6, 8)) < share for share in (0, 0.1, 0.5, 1)]
    return [encode_mask(mask)["counts"].encode() for mask in masks]


texts = st.one_of(changed_bytes(_run_lengths()), st.binary(max_size=20))
run_lengths = st.fixed_dictionaries(
    {
        "size": st.one_of(st.just([6, 8]), st.lists(st.integers(-1, 100), max_size=3), odd_values),
        "counts": st.one_of(
            texts, texts.map(lambda text: text.decode("latin1")), st.lists(st.integers(-3, 60), max_size=6), odd_values
        ),
    }
)
cases = st.one_of(
    st.tuples(st.just("run lengths"), run_lengths),
    st.tuples(st.just("pickle"), changed_bytes(_pickles())),
    st.tuples(st.just("picture"), changed_bytes(_pictures())),
)


def run(case: tuple[str, Any]) -> None:
    kind, content = case
    if kind == "run lengths":
        compressed = compressed_run_lengths(content)
        assert list(decode_mask(compressed).shape) == content["size"]
        assert list(decode_mask(content).shape) == content["size"]
        return
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "file"
        file.write_bytes(content)
        if kind == "pickle":
            read_checkpoint(file)
            return
        with suppress(OSError):  # which prediction takes for a failure, as every other
            assert read_picture(file, max_pixels=10_000).mode == "RGB"
