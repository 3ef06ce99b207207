"""Exported folders: opened like checkpoints; what a graph cannot do is refused in a sentence."""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel
from transformers.utils import (
    SAFE_WEIGHTS_INDEX_NAME,
    SAFE_WEIGHTS_NAME,
    WEIGHTS_INDEX_NAME,
    WEIGHTS_NAME,
    cached_file,
)

from ..architectures import architecture_of
from .exported_model import ExportedSegmentationModel

MANIFEST = "export.json"  # transformers' exporters write it
WEIGHTS = (SAFE_WEIGHTS_NAME, SAFE_WEIGHTS_INDEX_NAME, WEIGHTS_NAME, WEIGHTS_INDEX_NAME)
# what `from_pretrained` and pipelines say of where to load from: nothing of it changes a graph
PLACES = ("cache_dir", "force_download", "local_files_only", "revision", "subfolder", "token")
NOT_READ = ("adapter_kwargs", "proxies")  # and what they say besides
# format, as transformers calls it -> the packages that run it
RUNTIMES = {"onnx": ("onnx", "onnxscript", "onnxruntime"), "openvino": ("openvino",), "dynamo": ()}
FLOATS = (None, "auto", "float32", torch.float32)


def is_exported(checkpoint: str | os.PathLike, **settings: Any) -> bool:
    """Whether there is an exported graph, and no weights, which have precedence: they can do what it can, and more.

    Args:
        checkpoint: a folder or a name on the Hub.
        settings: as for `from_pretrained`; of these `PLACES` are read.
    """
    places = places_of(settings)

    def is_there(name: str) -> bool:
        try:
            return cached_file(checkpoint, name, **places) is not None
        except OSError:  # nor may anything else be there: whoever loads it says so
            return False

    return is_there(MANIFEST) and not any(map(is_there, WEIGHTS))


def places_of(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Those arguments of `from_pretrained` that say where to load from."""
    return {name: settings[name] for name in PLACES if settings.get(name) is not None}


def load_exported_model(
    checkpoint: str | os.PathLike, trust_remote_code: bool | None = False, **settings: Any
) -> ExportedSegmentationModel:
    """The model of an exported folder, on its runtime.

    Args:
        checkpoint: what `maskformer export` wrote, a folder or Hub name.
        trust_remote_code: folders of format torch hold pickled code: whether to open them.
        settings: what `from_pretrained` is given beside these. A graph takes none that would change it.

    Raises:
        ValueError: there are such settings; the graph takes more than pixels; it gives a finished result, which no
            post-processing reads; its runtime is not installed, or cannot open its files; or it is of format torch and
            not trusted.
    """
    check_settings(checkpoint, settings)
    places = places_of(settings)
    file = Path(cached_file(checkpoint, MANIFEST, **places))
    folder, manifest = file.parent, json.loads(file.read_text(encoding="utf-8"))
    form, graphs = manifest["export_format"], list(manifest["components"].values())
    if form not in RUNTIMES or len(graphs) != 1:
        raise ValueError(
            f"{folder} holds {len(graphs)} graphs of format {form}, expected one of {', '.join(RUNTIMES)}, as "
            "`maskformer export` writes it."
        )
    inputs = list(graphs[0]["metadata"]["kwargs"])
    if inputs != ["pixel_values"]:
        raise ValueError(
            f"The graph in {folder} takes {', '.join(inputs)}, expected one that takes pixel_values alone, as "
            "`maskformer export` writes it."
        )
    made = graphs[0]["metadata"]["export_config"]
    if made.get("result", "logits") != "logits":
        raise ValueError(
            f"The graph in {folder} gives the finished {made['result']} result, not the logits that are read here: "
            "the lines in README.md there run it. What opens checkpoints opens exports that were made without --with."
        )
    if form == "dynamo" and not trust_remote_code:
        raise ValueError(
            f"{folder} is of format torch, which holds pickled code: pass trust_remote_code if you trust who made it."
        )
    check_packages(form, RUNTIMES[form])
    from transformers.exporters import ExportedModel  # slow to import

    runtime: dict[str, Any] = {}
    if form == "openvino":
        # untold, OpenVINO chooses the device, and computes in bfloat16 on a CPU that can, whatever the graph says
        runtime = {"device": "cpu", "config": {"INFERENCE_PRECISION_HINT": made.get("dtype", "f32")}}
    trusted = bool(trust_remote_code)
    try:
        exported = ExportedModel.from_pretrained(checkpoint, trust_remote_code=trusted, **places, **runtime)
    except OSError:  # says which file is missing
        raise
    except Exception as error:
        # of broken files each runtime raises another kind, and OpenVINO says why in its last line
        reason = (str(error).strip().splitlines() or [type(error).__name__])[-1].rstrip(".!")
        raise ValueError(
            f"the graph in {folder} cannot be opened, since its files are not whole or of another version: {reason}"
        ) from error
    if form == "openvino" and made.get("image_size") is None:
        # OpenVINO keeps what it learns of its first images: after one of 32x32, a single position of Swin's last
        # stage, all larger ones would come out wrong
        exported(pixel_values=torch.zeros(2, 3, 97, 61))
    return ExportedSegmentationModel(exported, folder)


def check_packages(format: str, packages: Sequence[str]) -> None:
    """Raises a ValueError that says what to install where a package is missing, or transformers has no exporters."""
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if importlib.util.find_spec("transformers.exporters") is None:
        missing.append("transformers 5.24")
    if missing:
        raise ValueError(
            f"Format {format} needs {', '.join(missing)}, which is not installed: in the repository, "
            "pip install -e '.[export]'"
        )


def open_exported(
    model_class: type[PreTrainedModel], checkpoint: str | os.PathLike, **settings: Any
) -> ExportedSegmentationModel:
    """What `model_class.from_pretrained` gives for an exported folder.

    Args:
        model_class: of a checkpoint there.
        checkpoint: what `maskformer export` wrote, a folder or Hub name.
        settings: as for `load_exported_model`, and a `config` that must be the folder's.

    Raises:
        ValueError: the graph is of another class, as all are for models without logits; or as there.
    """
    own = AutoConfig.from_pretrained(checkpoint, **places_of(settings))
    known = architecture_of(own)
    if known is None or not issubclass(model_class, known.model_class):
        found = "a model of another package" if known is None else known.model_class.__name__
        raise ValueError(
            f"{checkpoint} holds an exported graph of {found}, which {model_class.__name__} does not open: a "
            "pipeline and load_model do."
        )
    config = settings.pop("config", None)
    if isinstance(config, PreTrainedConfig):
        given = config.to_dict()
        changed = {name for name, value in own.to_dict().items() if given.get(name) != value}
        settings |= {name: given.get(name) for name in changed - {"dtype"}}
    return load_exported_model(checkpoint, **settings)


def check_settings(folder: str | os.PathLike, settings: dict[str, Any]) -> None:
    """Raises a ValueError if something is to be changed in an exported graph as it is loaded."""
    refused = [
        name
        for name, value in settings.items()
        if not (name.startswith("_") or name in (*PLACES, *NOT_READ) or (name == "dtype" and value in FLOATS))
    ]
    if refused:
        raise ValueError(
            f"The exported graph in {folder} takes no {', '.join(sorted(refused))}: it computes as it was exported. "
            "Export again, or load the checkpoint that it was made of."
        )


def check_flags(
    model: PreTrainedModel, dtype: str = "float32", compiled: bool = False, resizing: Sequence[str] = ()
) -> None:
    """Raises a ValueError where flags have no meaning for a model, because it is an exported graph.

    Args:
        model: any.
        dtype, compiled: as for `prepare_model`.
        resizing: those flags that bring images to other sizes than the image processor's.
    """
    if not isinstance(model, ExportedSegmentationModel):
        return
    if dtype != "float32":
        raise ValueError(
            f"--dtype {dtype} has no meaning for {model.folder}: an exported graph computes in what it was exported "
            f"in, here {model.precision}. Leave it out, or export again in another precision."
        )
    if compiled:
        raise ValueError(
            f"--compile has no meaning for {model.folder}: an exported graph is compiled already. Leave it out."
        )
    if resizing and model.image_size is not None:
        height, width = model.image_size
        raise ValueError(
            f"{' and '.join(resizing)} changes the size of images, and the graph in {model.folder} was exported for "
            f"one size, {height}x{width}: leave it out, or export without --height and --width."
        )


def check_not_exported(checkpoint: str | os.PathLike, purpose: str) -> None:
    """Raises a ValueError if there is an exported graph, which cannot be `purpose` (trained, exported)."""
    if is_exported(checkpoint):
        raise ValueError(
            f"{checkpoint} holds an exported graph, which cannot be {purpose}: name its checkpoint instead."
        )
