"""The service: POST a picture to /segment, get its segments. /docs describes it, /health and /metrics watch it.

FastAPI reads and checks the parameters and describes them as OpenAPI from the same declarations; uvicorn serves it.
Both are what most Python services of models are made of, and light. The queue in front of the model is our own
(batch_queue.py, a page): a server of models would bring a process model and a client protocol of its own with it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from fastapi import FastAPI, HTTPException, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse, Response
from fastapi_offline import FastAPIOffline
from PIL import Image
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.datastructures import UploadFile
from starlette.requests import ClientDisconnect

from ..inference.checkpoint import Checkpoint
from ..inference.uploads import MEGABYTE, UploadLimits
from .batch_queue import BatchQueue, QueueFull
from .metrics import ServiceMetrics
from .responses import check_format, coco_of, png_of, segments_of

PARAMETERS = ("task", "threshold", "format")  # of the address
BODY = {
    "required": True,
    "description": "The picture itself, or a form with one file.",
    "content": {
        "image/*": {"schema": {"type": "string", "format": "binary"}},
        "multipart/form-data": {
            "schema": {"type": "object", "properties": {"file": {"type": "string", "format": "binary"}}}
        },
    },
}


@dataclass(frozen=True)
class Limits:
    """What a service takes.

    Attributes:
        max_batch_size, max_wait, max_requests: those of `BatchQueue`.
        upload_seconds: within which an upload has to be there.
        upload: of a picture.
    """

    max_batch_size: int = 8
    max_wait: float = 0.005
    max_requests: int = 64
    upload_seconds: float = 60
    upload: UploadLimits = field(default_factory=UploadLimits)


def make_application(checkpoint: Checkpoint, limits: Limits) -> FastAPI:
    """The ASGI application that serves a checkpoint."""
    metrics = ServiceMetrics()

    @asynccontextmanager
    async def lifespan(application: FastAPI) -> AsyncIterator[None]:
        queue = BatchQueue(
            checkpoint.segment,
            limits.max_batch_size,
            limits.max_wait,
            limits.max_requests,
            metrics.batch_sizes.observe,
        )
        metrics.watch(queue)
        application.state.queue = queue
        await queue.start()
        yield
        await queue.close()  # after the last connection: what was accepted is answered

    application = FastAPIOffline(
        title="MaskFormer",
        description=f"Segments of pictures, by {checkpoint.name}.",
        lifespan=lifespan,
        redoc_url=None,
    )

    @application.exception_handler(RequestValidationError)
    async def say_what_is_wrong(request: Request, error: RequestValidationError) -> JSONResponse:
        problems = [f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in error.errors()]
        return JSONResponse({"detail": "; ".join(problems)}, status_code=422)

    @application.middleware("http")
    async def count(request: Request, call_next: Any) -> Response:
        if request.url.path != "/segment":
            return await call_next(request)
        start, status = time.perf_counter(), 500
        try:
            response = await call_next(request)
            status = response.status_code
            return response
        finally:
            metrics.requests.labels(status).inc()
            metrics.seconds.observe(time.perf_counter() - start)

    @application.get("/", include_in_schema=False)
    async def root() -> RedirectResponse:
        return RedirectResponse("docs")

    @application.get("/health")
    async def health() -> JSONResponse:
        """200 where pictures are segmented, else 503."""
        is_running = application.state.queue.is_running
        return JSONResponse({"status": "ok" if is_running else "down"}, status_code=200 if is_running else 503)

    @application.get("/model")
    async def model() -> dict[str, Any]:
        """The checkpoint, the tasks that it can do, the one it was trained for, and its classes."""
        return {
            "name": checkpoint.name,
            "tasks": checkpoint.tasks,
            "task": checkpoint.task,
            "labels": checkpoint.id2label,
            "stuff": checkpoint.stuff,
        }

    @application.get("/metrics", response_class=Response)
    async def metrics_text() -> Response:
        """Counters in Prometheus' text format."""
        return Response(metrics.text(), media_type=CONTENT_TYPE_LATEST)

    @application.post(
        "/segment",
        openapi_extra={"requestBody": BODY},
        responses={
            200: {"content": {"image/png": {}}, "description": "The segments, in the format asked for."},
            408: {"description": "The upload took too long."},
            413: {"description": "The upload has too many bytes."},
            422: {
                "description": "It is no picture, or none that the model takes, too large, or a parameter is wrong."
            },
            429: {"description": "Too many requests are in work: try again after a second."},
        },
    )
    async def segment(
        request: Request,
        task: Annotated[
            Literal["semantic", "instance", "panoptic"] | None,
            Query(description="What to find. Default: what the checkpoint was trained for."),
        ] = None,
        threshold: Annotated[
            float | None,
            Query(ge=0, le=1, description="Least score of a segment. Default: 0.5 for instance, 0.8 for panoptic."),
        ] = None,
        format: Annotated[
            Literal["rle", "coco", "png"],
            Query(
                description="rle: JSON with COCO run-length codes. coco: COCO's JSON; of panoptic with its image as "
                "base64. png: an image of class ids (semantic) or of COCO's segment ids (panoptic)."
            ),
        ] = "rle",
    ) -> Response:
        """The segments of one picture."""
        queue: BatchQueue = application.state.queue
        try:
            with queue.place():
                with sentences_for_the_client():
                    check_format(task or checkpoint.task, format)
                    data = await read_in_time(request, limits)
                async with client_leaves(request) as leaves:
                    with sentences_for_the_client():
                        image = await run_in_threadpool(limits.upload.decode, data)
                        wish = checkpoint.request(image, task, threshold)
                        prediction = await unless(leaves, queue.submit(wish))  # a graph may not take every size
                return await run_in_threadpool(answer, checkpoint, wish.task, image, prediction, format)
        except ClientDisconnect:
            raise HTTPException(499, "The client has left.") from None  # for the metrics: nobody reads it
        except QueueFull:
            sentence = f"{limits.max_requests} requests are in work, and no more are taken: try again after a second."
            raise HTTPException(429, sentence, {"Retry-After": "1"}) from None

    return application


@contextmanager
def sentences_for_the_client() -> Iterator[None]:
    """Answers a ValueError with 422 and its sentence."""
    try:
        yield
    except ValueError as error:
        raise HTTPException(422, str(error)) from error


@asynccontextmanager
async def client_leaves(request: Request) -> AsyncIterator[asyncio.Task[None]]:
    """A task that ends when the client of a request leaves, whose body has been read: nothing else comes any more."""

    async def wait() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    leaves = asyncio.create_task(wait())
    try:
        yield leaves
    finally:
        leaves.cancel()


async def unless(leaves: asyncio.Task[None], work: Coroutine[Any, Any, Any]) -> Any:
    """What the work returns; it is cancelled when the client leaves.

    Raises:
        ClientDisconnect: it has left.
    """
    task = asyncio.create_task(work)
    try:
        await asyncio.wait({task, leaves}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise ClientDisconnect
    finally:
        task.cancel()


async def read_in_time(request: Request, limits: Limits) -> bytes:
    """What `read_upload` returns, or an HTTPException 408 where a client takes too long and would hold its place."""
    try:
        return await asyncio.wait_for(read_upload(request, limits.upload.max_bytes), limits.upload_seconds)
    except TimeoutError:
        sentence = f"The upload was not there after {limits.upload_seconds:g} seconds, which is all that is waited."
        raise HTTPException(408, sentence, {"Connection": "close"}) from None


async def read_upload(request: Request, max_bytes: int) -> bytes:
    """The bytes of the picture in a request's body, or of the one file of its form.

    Raises:
        HTTPException: 413, there are more than allowed; read no further than that.
        ValueError: there is no file in the form, or several, or it is empty; or the form has what the address tells.
    """
    too_many = HTTPException(413, f"The upload has more than {max_bytes / MEGABYTE:g} MB, which is all that is taken.")
    if (
        int(request.headers.get("content-length") or 0) > max_bytes + MEGABYTE
    ):  # a form has a little more than its file
        raise too_many
    read, receive = 0, request.receive

    async def receive_so_much() -> Any:
        nonlocal read
        message = await receive()
        read += len(message.get("body", b""))
        if read > max_bytes + MEGABYTE:
            raise too_many
        return message

    limited = Request(request.scope, receive_so_much)
    if not request.headers.get("content-type", "").lower().startswith("multipart/"):
        data = await limited.body()
    else:
        async with limited.form() as form:
            misplaced = [name for name in PARAMETERS if isinstance(form.get(name), str)]
            if misplaced:
                raise ValueError(
                    f"The form has {', '.join(misplaced)}, which would not be read: give it in the address, as in "
                    f"/segment?{misplaced[0]}=..."
                )
            files = [value for _, value in form.multi_items() if isinstance(value, UploadFile)]
            if len(files) != 1:
                raise ValueError(f"The form must hold one file, the picture, got {len(files)}.")
            data = await files[0].read()
    if len(data) > max_bytes:
        raise too_many
    if not data:
        raise ValueError("The request has no picture: send one as its body, or as the file of a form.")
    return data


def answer(checkpoint: Checkpoint, task: str, image: Image.Image, prediction: Any, form: str) -> Response:
    """The prediction of a picture in one of the formats."""
    size = image.height, image.width
    if form == "png":
        return Response(png_of(task, prediction, len(checkpoint.id2label)), media_type="image/png")
    if form == "coco":
        return JSONResponse(coco_of(checkpoint, task, prediction, size))
    segments = segments_of(task, prediction, checkpoint.id2label)
    return JSONResponse({"task": task, "height": size[0], "width": size[1], "segments": segments})
