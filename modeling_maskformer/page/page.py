"""The page: a Gradio application over some checkpoints. Nothing of it comes from, or goes to, another machine."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from shutil import make_archive, rmtree
from tempfile import TemporaryDirectory
from typing import Any

import gradio as gr
from PIL import Image

from ..inference.checkpoint import Checkpoint
from ..inference.inputs import Picture
from ..inference.prediction_run.records import RecordFile
from ..inference.prediction_run.run import join_results
from ..inference.prediction_run.writer import ResultWriter
from ..inference.predictor import DEFAULT_THRESHOLDS
from ..inference.result_names import RECORDS
from ..inference.uploads import UploadLimits
from .overlay import overlay_of

HERE = Path(__file__).parent
CACHE_SECONDS = 3600  # uploads and archives are deleted when they are older
CSS = ".gradio-container > main { width: 100%; max-width: 1400px !important; }"


@dataclass(frozen=True)
class PageSettings:
    """What a page takes.

    Attributes:
        upload: of a picture.
        concurrency: pictures that are segmented at once; others wait in turn.
        max_waiting: pictures that may wait.
        examples: files of pictures to try.
    """

    upload: UploadLimits = field(default_factory=UploadLimits)
    concurrency: int = 1
    max_waiting: int = 32
    examples: Sequence[Path] = ()


def make_page(checkpoints: Sequence[Checkpoint], settings: PageSettings) -> gr.Blocks:
    """The page, to be launched by `launch`."""
    by_name = {checkpoint.name: checkpoint for checkpoint in checkpoints}
    first = checkpoints[0]

    def segment(file: str | None, name: str, task: str, threshold: float) -> Iterator[tuple[str | None, Any]]:
        nothing = gr.DownloadButton(value=None, interactive=False)
        if file is None:
            yield None, nothing
            return
        checkpoint = by_name[name]
        try:
            image = settings.upload.decode(Path(file))
            wish = checkpoint.request(image, task, None if task == "semantic" else threshold)
            (prediction,) = checkpoint.segment([wish])
        except (ValueError, RuntimeError) as error:  # also where the memory ends
            yield json.dumps({"message": str(error)}), nothing
            return
        shown = overlay_of(wish.task, image, prediction, checkpoint.id2label)
        with TemporaryDirectory() as folder:  # gone when the next line has been sent
            archive = write_archive(Path(folder), Path(file).stem, checkpoint, wish.task, image, prediction)
            yield json.dumps(shown), gr.DownloadButton(value=archive, interactive=True)

    def for_checkpoint(name: str, task: str) -> tuple[Any, Any]:
        checkpoint = by_name[name]
        task = task if task in checkpoint.tasks else checkpoint.task
        return gr.Radio(choices=choices_of(checkpoint), value=task), threshold_of(task)

    with gr.Blocks(title="MaskFormer", analytics_enabled=False, delete_cache=(CACHE_SECONDS, CACHE_SECONDS)) as page:
        gr.Markdown("# MaskFormer\nDrop a picture to see its segments. Point at one to read its name and score.")
        with gr.Row():
            with gr.Column(scale=2, min_width=300):
                file = gr.Image(
                    label="Picture", type="filepath", sources=["upload", "clipboard"], height=260, elem_id="picture"
                )
                file.preprocess = uploaded_file
                name = gr.Dropdown(
                    short_names(by_name),
                    value=first.name,
                    label="Checkpoint",
                    visible=len(by_name) > 1,
                    elem_id="checkpoint",
                )
                task = gr.Radio(choices_of(first), value=first.task, label="Task", elem_id="task")
                threshold = threshold_of(first.task)
                archive = gr.DownloadButton("Download the result files", interactive=False, elem_id="download")
                if settings.examples:
                    examples = gr.Examples([str(path) for path in settings.examples], file, label="Examples")
            with gr.Column(scale=3, min_width=300):
                overlay = gr.HTML(
                    None,
                    html_template=(HERE / "overlay.html").read_text(encoding="utf-8"),
                    css_template=(HERE / "overlay.css").read_text(encoding="utf-8"),
                    js_on_load=(HERE / "overlay.js").read_text(encoding="utf-8"),
                    elem_id="overlay",
                )
        wish = {"fn": segment, "inputs": [file, name, task, threshold], "outputs": [overlay, archive]}
        queue = {"concurrency_limit": settings.concurrency, "concurrency_id": "model", "trigger_mode": "always_last"}
        file.input(**wish, **queue)  # a change would come twice with each upload
        if settings.examples:
            examples.load_input_event.then(**wish, **queue)
        threshold.release(**wish, **queue)
        task.input(threshold_of, task, threshold).then(**wish, **queue)
        name.input(for_checkpoint, [name, task], [task, threshold]).then(**wish, **queue)
    return page.queue(max_size=settings.max_waiting)


def launch(page: gr.Blocks, host: str, port: int, settings: PageSettings, **options: Any) -> Any:
    """Serves the page, to this machine alone unless the host says otherwise; what gradio's `launch` returns."""
    return page.launch(
        server_name=host,
        server_port=port,
        share=False,
        max_file_size=settings.upload.max_bytes,
        allowed_paths=[str(path) for path in settings.examples],
        theme=gr.themes.Default(primary_hue="blue", font=["system-ui", "sans-serif"], font_mono=["monospace"]),
        css=CSS,
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        pwa=False,
        enable_monitoring=False,
        show_error=True,
        quiet=True,
        **options,
    )


def uploaded_file(payload: Any) -> str | None:
    """The file as it was uploaded; gradio's own way would fail, in its words, at what `UploadLimits` word better."""
    return None if payload is None else payload.path


def short_names(paths: Iterable[str]) -> list[tuple[str, str]]:
    """The last part of each path, where no two are the same, and the path."""
    paths = list(paths)
    last = [Path(path).name for path in paths]
    return [(name if last.count(name) == 1 else path, path) for name, path in zip(last, paths, strict=True)]


def choices_of(checkpoint: Checkpoint) -> list[tuple[str, str]]:
    """The tasks that it can do, as the page calls them."""
    return [(task.capitalize(), task) for task in checkpoint.tasks]


def threshold_of(task: str) -> gr.Slider:
    """The slider of the least score, at the task's usual one; hidden where a task has none."""
    return gr.Slider(
        0, 1, DEFAULT_THRESHOLDS[task], step=0.05, label="Least score", visible=task != "semantic", elem_id="threshold"
    )


def write_archive(
    folder: Path, name: str, checkpoint: Checkpoint, task: str, image: Image.Image, prediction: Any
) -> str:
    """The path of a ZIP file of what predict.py writes for the picture."""
    writer = ResultWriter(
        folder / "results", task, checkpoint.id2label, checkpoint.stuff, category_ids=checkpoint.category_ids
    )
    picture, recorded = Picture(name, 0, lambda: image), writer.folder / RECORDS
    records = RecordFile(recorded)
    entry = {"file_name": name, "width": image.width, "height": image.height}
    records.add(name, picture.stamp(), writer.paths_of(name), entry, writer.write(picture, image, prediction))
    records.close()
    join_results(writer, [picture])
    rmtree(recorded)
    return make_archive(str(folder / f"{name}-{task}"), "zip", writer.folder)
