"""How the tests export, open and feed a folder."""

import importlib.util

import numpy as np
import pytest
from PIL import Image

from modeling_maskformer.commands.export import main

PACKAGES = {"torch": [], "onnx": ["onnx", "onnxscript", "onnxruntime"], "openvino": ["openvino"]}


def need(*packages):
    """Skips a test where a package of the extra is missing."""
    pytest.importorskip("transformers.exporters", reason="transformers has no exporters before 5.24")
    missing = [package for package in packages if importlib.util.find_spec(package) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} is not installed (extra `export`)")


def export(checkpoint, folder, format, *flags):
    """The folder, where `maskformer export` has written one of this format."""
    need(*PACKAGES[format])
    main([str(checkpoint), str(folder), "--format", format, *map(str, flags)])
    return folder


def trust(folder):
    """The flag that opens a folder of `exported`."""
    return ["--trust_remote_code"] if folder.name == "torch" else []


def picture(height, width):
    """A picture of noise, the same for each height."""
    generator = np.random.default_rng(height)
    return Image.fromarray(generator.integers(0, 256, (height, width, 3), dtype=np.uint8))
