"""The service over HTTP: results as of the predictor, and a sentence for everything it cannot take."""

import base64
import io
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
from launched import free_port
from PIL import Image
from pycocotools import mask as coco_mask
from served import small_checkpoint

from image_processing.results import decode_mask, rgb_to_ids
from modeling_maskformer.commands import serve
from modeling_maskformer.inference.uploads import UploadLimits

NEEDED = "the service needs FastAPI and uvicorn, its tests httpx: pip install -e '.[test]'"
httpx = pytest.importorskip("httpx", reason=NEEDED)
TestClient = pytest.importorskip("fastapi.testclient", reason=NEEDED).TestClient
pytest.importorskip("uvicorn", reason=NEEDED)
application = pytest.importorskip("modeling_maskformer.serving.application", reason=NEEDED)
make_application = application.make_application

LIMITS = application.Limits(max_batch_size=4, max_requests=6, upload=UploadLimits(0.03, 10_000))


def encoded(size=(60, 40), kind="png", mode="RGB"):
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(file, kind)
    return file.getvalue()


@pytest.fixture(scope="module")
def client(checkpoint):
    with TestClient(make_application(checkpoint, LIMITS)) as client:
        yield client


def prediction_of(checkpoint, data, *wish):
    return checkpoint.segment([checkpoint.request(Image.open(io.BytesIO(data)).convert("RGB"), *wish)])[0]


def test_run_length_codes_are_those_of_the_prediction(client, checkpoint):
    data = encoded()
    answer = client.post("/segment", params={"task": "panoptic", "threshold": 0.3}, content=data).json()
    expected = prediction_of(checkpoint, data, "panoptic", 0.3)
    assert (answer["height"], answer["width"], answer["task"]) == (40, 60, "panoptic")
    assert len(answer["segments"]) == len(expected["segments_info"]) > 1
    for segment, info in zip(answer["segments"], expected["segments_info"], strict=True):
        mask = decode_mask(segment["segmentation"]).numpy()
        np.testing.assert_array_equal(mask, expected["segmentation"].numpy() == info["id"])
        assert segment["label"] == checkpoint.id2label[info["label_id"]] and segment["score"] == info["score"]
        assert segment["area"] == mask.sum() and segment["bbox"] == coco_mask.toBbox(segment["segmentation"]).tolist()


def test_semantic_segments_are_the_classes(client, checkpoint):
    data = encoded()
    classes = prediction_of(checkpoint, data, "semantic").numpy()
    segments = client.post("/segment", params={"task": "semantic"}, content=data).json()["segments"]
    assert [segment["label_id"] for segment in segments] == np.unique(classes).tolist()
    assert all(segment["score"] is None for segment in segments)
    png = client.post("/segment", params={"task": "semantic", "format": "png"}, content=data)
    assert png.headers["content-type"] == "image/png"
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(png.content))), classes)


def test_coco_panoptic_comes_with_its_image(client, checkpoint):
    data = encoded()
    params = {"task": "panoptic", "threshold": 0.3, "format": "coco"}
    answer = client.post("/segment", params=params, content=data).json()
    (annotation,) = answer["annotations"]
    ids = rgb_to_ids(Image.open(io.BytesIO(base64.b64decode(answer["png"]))))
    np.testing.assert_array_equal(ids, prediction_of(checkpoint, data, "panoptic", 0.3)["segmentation"])
    assert {entry["id"]: entry["area"] for entry in annotation["segments_info"]} == {
        number: int((ids == number).sum()) for number in np.unique(ids[ids > 0])
    }
    assert [entry["isthing"] for entry in answer["categories"]] == [0, 0, 1, 1, 0]
    png = client.post("/segment", params=params | {"format": "png"}, content=data).content
    np.testing.assert_array_equal(rgb_to_ids(Image.open(io.BytesIO(png))), ids)


def test_coco_instances_have_run_length_codes(client, checkpoint):
    data = encoded()
    params = {"task": "instance", "threshold": 0, "format": "coco"}
    annotations = client.post("/segment", params=params, content=data).json()["annotations"]
    expected = prediction_of(checkpoint, data, "instance", 0.0)
    assert [entry["segmentation"] for entry in annotations] == expected["segmentation"] != []
    assert [entry["id"] for entry in annotations] == list(range(1, len(annotations) + 1))


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp", "bmp", "gif"])
def test_pictures_come_as_a_body_or_as_the_file_of_a_form(client, kind):
    data = encoded(kind=kind, size=(30, 20))
    plain = client.post("/segment", content=data, headers={"content-type": f"image/{kind}"})
    form = client.post("/segment", files={"anything": ("photo", data)})
    assert plain.status_code == form.status_code == 200 and plain.json() == form.json()


def test_a_form_is_one_in_capitals_too(client):
    lines = [b"--x", b'Content-Disposition: form-data; name="file"; filename="photo"', b"", encoded(), b"--x--", b""]
    form = {"content": b"\r\n".join(lines), "headers": {"Content-Type": "Multipart/Form-Data; boundary=x"}}
    assert client.post("/segment", **form).json() == client.post("/segment", content=encoded()).json()


@pytest.mark.parametrize(
    ("status", "sentence", "wish"),
    [
        (422, "has no picture", {"content": b""}),
        (422, "of no known kind", {"content": b"no picture at all"}),
        (422, "cannot be read: ", {"content": encoded(kind="bmp")[:-100]}),
        (
            422,
            "it is 200 x 100 pixels (width x height), expected at most 10000",
            {"content": encoded((200, 100), "jpeg")},
        ),
        (413, "more than 0.03 MB", {"content": b"x" * 40_000}),
        (413, "more than 0.03 MB", {"files": {"file": b"x" * 40_000}}),
        (413, "more than 0.03 MB", {"content": b"x" * 2_000_000}),
        (413, "more than 0.03 MB", {"content": iter([b"x" * 10_000] * 200)}),
        (413, "more than 0.03 MB", {"files": {"file": b"x" * 2_000_000}}),
        (
            422,
            "The form has task, which would not be read",
            {"files": {"file": encoded()}, "data": {"task": "semantic"}},
        ),
        (422, "The form must hold one file", {"files": {"one": encoded(), "two": encoded()}}),
        (422, "query.task: Input should be 'semantic', 'instance' or 'panoptic'", {"params": {"task": "depth"}}),
        (422, "query.threshold: Input should be less than or equal to 1", {"params": {"threshold": 3}}),
        (422, "no meaning for semantic", {"params": {"task": "semantic", "threshold": 0.5}, "content": encoded()}),
        (422, "Instances may overlap", {"params": {"task": "instance", "format": "png"}, "content": encoded()}),
        (422, "no form for semantic", {"params": {"task": "semantic", "format": "coco"}, "content": encoded()}),
    ],
)
def test_what_cannot_be_taken_is_refused_in_a_sentence_and_the_service_goes_on(client, status, sentence, wish):
    answer = client.post("/segment", **wish)
    assert answer.status_code == status and sentence in answer.json()["detail"]
    assert client.post("/segment", content=encoded()).status_code == 200


def test_a_baseline_refuses_what_it_cannot_do():
    with TestClient(make_application(small_checkpoint("per_pixel"), LIMITS)) as client:
        assert client.get("/model").json()["tasks"] == ["semantic"]
        answer = client.post("/segment", params={"task": "panoptic"}, content=encoded())
        assert answer.status_code == 422 and "cannot do panoptic" in answer.json()["detail"]
        assert client.post("/segment", content=encoded()).json()["task"] == "semantic"


class Held:
    """A checkpoint whose calls wait until they may go on."""

    def __init__(self, checkpoint):
        self.checkpoint, self.may_go_on, self.sizes = checkpoint, threading.Event(), []

    def __getattr__(self, name):
        return getattr(self.checkpoint, name)

    def segment(self, requests):
        self.sizes.append(sorted({request.image.size for request in requests}))
        assert self.may_go_on.wait(20)
        return self.checkpoint.segment(requests)


class FailsAt13(Held):
    """A checkpoint that raises an error for pictures of 13x13 pixels."""

    def __init__(self, checkpoint, error):
        super().__init__(checkpoint)
        self.error = error

    def segment(self, requests):
        if any(request.image.size == (13, 13) for request in requests):
            raise self.error
        return self.checkpoint.segment(requests)


def until(condition):
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_requests_beyond_the_bound_are_told_to_come_again(checkpoint):
    held = Held(checkpoint)
    with TestClient(make_application(held, LIMITS)) as client, ThreadPoolExecutor(6) as threads:
        sizes = [(60, 40), (40, 60), (50, 50), (60, 40), (40, 60), (50, 50)]
        answers = [threads.submit(client.post, "/segment", content=encoded(size)) for size in sizes]
        until(lambda: "maskformer_requests_in_work 6.0" in client.get("/metrics").text)
        refused = client.post("/segment", content=encoded())
        held.may_go_on.set()
        assert refused.status_code == 429 and refused.headers["retry-after"] == "1"
        assert "6 requests are in work" in refused.json()["detail"]
        for answer, (width, height) in zip(answers, sizes, strict=True):
            found = answer.result(30)
            assert found.status_code == 200 and (found.json()["width"], found.json()["height"]) == (width, height)
        assert max(map(len, held.sizes)) > 1  # pictures of several sizes went through the model together
        text = client.get("/metrics").text
        assert 'maskformer_requests_total{status="200"} 6.0' in text
        assert 'maskformer_requests_total{status="429"} 1.0' in text
        assert "maskformer_batch_size_sum 6.0" in text and "maskformer_requests_in_work 0.0" in text


@contextmanager
def listening(service):
    """The port at which a service listens, in a thread; what it logs goes to the log of the test."""
    uvicorn = pytest.importorskip("uvicorn")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(service, log_config=None, timeout_graceful_shutdown=10))
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            until(lambda: server.started)
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join(30)


def sending(port, length, data, kind="image/png"):
    """A connection that has sent the head of a request and this much of its body."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=20)
    head = f"POST /segment HTTP/1.1\r\nHost: here\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n"
    connection.sendall(head.encode() + data)
    return connection


FORM = "multipart/form-data; boundary=x"
HALF_A_FORM = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\nabc'


@pytest.mark.parametrize(("kind", "part"), [("image/png", b"abc"), ("image/png", b""), (FORM, HALF_A_FORM)])
def test_an_upload_that_stalls_gives_its_place_back(checkpoint, kind, part):
    limits = replace(LIMITS, max_requests=2, upload_seconds=0.5)
    with listening(make_application(checkpoint, limits)) as port:
        stalled = [sending(port, 1000, part, kind) for _ in range(2)]
        url = f"http://127.0.0.1:{port}"
        until(lambda: "maskformer_requests_in_work 2.0" in httpx.get(f"{url}/metrics").text)
        for connection in stalled:
            with connection, connection.makefile("rb") as file:
                answer = file.read()  # to the end: the connection is closed
            assert answer.startswith(b"HTTP/1.1 408 ") and b"not there after 0.5 seconds" in answer
        assert httpx.post(f"{url}/segment", content=encoded()).status_code == 200
        text = httpx.get(f"{url}/metrics").text
        assert 'maskformer_requests_total{status="408"} 2.0' in text and "maskformer_requests_in_work 0.0" in text


@pytest.mark.parametrize(("kind", "part"), [("image/png", b"abc"), (FORM, HALF_A_FORM)])
def test_who_leaves_during_the_upload_is_no_error_of_the_service(checkpoint, caplog, kind, part):
    with listening(make_application(checkpoint, replace(LIMITS, max_requests=1))) as port:
        url = f"http://127.0.0.1:{port}"
        with sending(port, 1000, part, kind):
            until(lambda: "maskformer_requests_in_work 1.0" in httpx.get(f"{url}/metrics").text)
        until(lambda: "maskformer_requests_in_work 0.0" in httpx.get(f"{url}/metrics").text)
        assert httpx.post(f"{url}/segment", content=encoded()).status_code == 200
        text = httpx.get(f"{url}/metrics").text
        assert 'maskformer_requests_total{status="499"} 1.0' in text and 'status="500"' not in text
    assert "Traceback" not in caplog.text and "Exception" not in caplog.text


@pytest.mark.parametrize("form", [False, True])
def test_who_leaves_while_waiting_costs_no_call_and_no_place(checkpoint, caplog, form):
    held = Held(checkpoint)
    limits = replace(LIMITS, max_batch_size=1, max_requests=3)
    with listening(make_application(held, limits)) as port, ThreadPoolExecutor(2) as threads:
        url = f"http://127.0.0.1:{port}"
        first = threads.submit(httpx.post, f"{url}/segment", content=encoded(), timeout=30)
        until(lambda: held.sizes)  # the model is at work, and the next ones wait
        body, kind = encoded((30, 20)), "image/png"
        if form:
            body, kind = HALF_A_FORM[:-3] + body + b"\r\n--x--\r\n", FORM
        leaving = [sending(port, len(body), body, kind) for _ in range(2)]
        until(lambda: "maskformer_requests_waiting 2.0" in httpx.get(f"{url}/metrics").text)
        assert httpx.post(f"{url}/segment", content=encoded()).status_code == 429
        for connection in leaving:
            connection.close()
        until(lambda: "maskformer_requests_in_work 1.0" in httpx.get(f"{url}/metrics").text)
        assert "maskformer_requests_waiting 0.0" in httpx.get(f"{url}/metrics").text
        last = threads.submit(httpx.post, f"{url}/segment", content=encoded((40, 40)), timeout=30)
        until(lambda: "maskformer_requests_waiting 1.0" in httpx.get(f"{url}/metrics").text)
        held.may_go_on.set()
        assert first.result().status_code == last.result().status_code == 200
        assert held.sizes == [[(60, 40)], [(40, 40)]]
        assert 'maskformer_requests_total{status="499"} 2.0' in httpx.get(f"{url}/metrics").text
    assert "Traceback" not in caplog.text and "never retrieved" not in caplog.text


def test_who_leaves_while_the_picture_is_decoded_costs_no_call(checkpoint):
    held, decoding, may_decode = Held(checkpoint), threading.Event(), threading.Event()
    held.may_go_on.set()

    class SlowLimits(UploadLimits):
        def decode(self, source):
            decoding.set()
            assert may_decode.wait(20)
            return super().decode(source)

    with listening(make_application(held, replace(LIMITS, max_batch_size=1, upload=SlowLimits(0.03, 10_000)))) as port:
        url, body = f"http://127.0.0.1:{port}", encoded((30, 20))
        with sending(port, len(body), body):
            until(decoding.is_set)
        time.sleep(0.2)  # the service learns of it
        assert "maskformer_requests_in_work 1.0" in httpx.get(f"{url}/metrics").text
        may_decode.set()
        until(lambda: 'maskformer_requests_total{status="499"} 1.0' in httpx.get(f"{url}/metrics").text)
        assert httpx.post(f"{url}/segment", content=encoded()).status_code == 200
    assert held.sizes == [[(60, 40)]]


def test_health_says_whether_pictures_are_segmented(checkpoint):
    service = make_application(checkpoint, LIMITS)
    with TestClient(service) as client:
        assert client.get("/health").json() == {"status": "ok"}
        service.state.queue._loop_task.cancel()
        until(lambda: client.get("/health").status_code == 503)


def test_an_error_of_the_model_is_answered_and_the_service_goes_on(checkpoint):
    held = FailsAt13(checkpoint, RuntimeError("out of memory"))
    with TestClient(make_application(held, LIMITS), raise_server_exceptions=False) as client:
        assert client.post("/segment", content=encoded((13, 13))).status_code == 500
        assert client.post("/segment", content=encoded()).status_code == 200
        assert 'status="500"' in client.get("/metrics").text


def test_a_picture_that_the_model_does_not_take_is_refused_in_its_sentence(checkpoint):
    held = FailsAt13(checkpoint, ValueError("The graph takes no images of 13x13 pixels."))
    with TestClient(make_application(held, LIMITS), raise_server_exceptions=False) as client:
        answer = client.post("/segment", content=encoded((13, 13)))
        assert answer.status_code == 422 and answer.json()["detail"] == "The graph takes no images of 13x13 pixels."
        assert client.post("/segment", content=encoded()).status_code == 200


def test_the_description_is_complete_and_needs_no_network(client):
    page = client.get("/docs").text
    assert "http://" not in page and "https://" not in page
    paths = client.get("/openapi.json").json()["paths"]
    operation = paths["/segment"]["post"]
    assert {"image/*", "multipart/form-data"} == set(operation["requestBody"]["content"])
    assert {parameter["name"] for parameter in operation["parameters"]} == {"task", "threshold", "format"}
    assert {"200", "408", "413", "422", "429"} <= set(operation["responses"])
    assert {"/health", "/metrics", "/model"} <= set(paths)


def test_the_command_serves_and_at_its_end_answers_what_it_has_taken(checkpoint_folder):
    port = free_port()
    flags = [checkpoint_folder, "--port", port, "--use_cpu", "--max_wait_ms", 2000, "--max_batch_size", 9]
    code = "from modeling_maskformer.commands.serve import main; main()"
    process = subprocess.Popen([sys.executable, "-c", code, *map(str, flags)])
    try:
        url = f"http://127.0.0.1:{port}"
        end = time.monotonic() + 120
        while True:
            try:
                assert httpx.get(f"{url}/health", timeout=10).json() == {"status": "ok"}
                break
            except httpx.TransportError:
                assert process.poll() is None and time.monotonic() < end
                time.sleep(0.2)
        with ThreadPoolExecutor(4) as threads:
            answers = [threads.submit(httpx.post, f"{url}/segment", content=encoded(), timeout=60) for _ in range(4)]
            until(lambda: "maskformer_requests_waiting 4.0" in httpx.get(f"{url}/metrics").text)
            process.send_signal(signal.SIGTERM)
            assert [answer.result().status_code for answer in answers] == [200] * 4
        process.wait(30)
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{url}/health")
    finally:
        process.kill()
        process.wait()


def test_what_cannot_be_served_is_refused(tmp_path, capsys):
    for flags, sentence in (
        ([tmp_path], "has no config.json"),
        ([tmp_path, "--max_batch_size", 0], "--max_batch_size: must be at least 1, got 0"),
        ([tmp_path, "--max_wait_ms", -1], "--max_wait_ms: must be at least 0, got -1"),
        ([tmp_path, "--max_pixels", "many"], "--max_pixels: invalid int value: 'many'"),
        ([tmp_path, "--max_upload_mb", "inf"], "--max_upload_mb: must be at most 1000000000, got inf"),
        ([tmp_path, "--max_upload_mb", "1e305"], "--max_upload_mb: must be at most 1000000000, got 1e305"),
        ([tmp_path, "--max_wait_ms", "inf"], "--max_wait_ms: must be at most 1000000000, got inf"),
        ([tmp_path, "--max_wait_ms", "nan"], "--max_wait_ms: must be at least 0, got nan"),
        ([tmp_path, "--upload_seconds", 0], "--upload_seconds: must be at least 0.001, got 0"),
        ([tmp_path, "--grace_seconds", 10**400], "--grace_seconds: must be at most 1000000000, got 1000"),
        ([tmp_path, "--port", -1], "--port: must be at least 0, got -1"),
        ([tmp_path, "--port", 99999], "--port: must be at most 65535, got 99999"),
    ):
        with pytest.raises(SystemExit) as stop:
            serve.main([str(flag) for flag in flags])
        assert stop.value.code == 2 and sentence in capsys.readouterr().err
