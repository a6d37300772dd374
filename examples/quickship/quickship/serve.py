"""The service: what a trip will be late, by the model that MODEL_URI names.

Without a model it answers as the timetable does: on time. Travellers get their answer either way, and the first model
has something to be compared with.
"""

import json
import os
import signal
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram, generate_latest

from .model import Model

MAX_BODY = 1 << 20


def model_path(uri: str, claim: str, mount: str) -> Path:
    """Where the artifact of a pvc:// URI lies in this container."""
    prefix = f"pvc://{claim}/"
    if not uri.startswith(prefix):
        raise SystemExit(f"MODEL_URI is {uri}: this container mounts only the claim {claim} (at {mount})")
    return Path(mount) / uri.removeprefix(prefix)


class Service:
    """One model, its version, and what is counted."""

    def __init__(self, model: Model | None, version: str):
        self.model, self.version = model, version
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "quickship_requests", "Requests.", ["path", "code", "version"], registry=self.registry
        )
        self.seconds = Histogram(
            "quickship_request_seconds", "Time to answer.", buckets=(0.002, 0.01, 0.05, 0.25, 1), registry=self.registry
        )
        # An outcome may come back to a pod of another version, so the version of the answer is a label of its own.
        self.error = Counter(
            "quickship_absolute_error_minutes",
            "Sum of the absolute errors of answers whose trip has ended.",
            ["model_version"],
            registry=self.registry,
        )
        self.outcomes = Counter(
            "quickship_outcomes", "Answers whose trip has ended.", ["model_version"], registry=self.registry
        )

    def predict(self, trip: dict) -> dict:
        delay = 0.0 if self.model is None else self.model.predict_trip(trip)
        return {"delay": round(delay, 2), "version": self.version}

    def learn_outcomes(self, outcomes: list[dict]) -> dict:
        for outcome in outcomes:
            version = str(outcome["version"])[:63]
            self.error.labels(version).inc(abs(float(outcome["predicted"]) - float(outcome["actual"])))
            self.outcomes.labels(version).inc()
        return {"taken": len(outcomes)}


class Handler(BaseHTTPRequestHandler):
    service: Service
    protocol_version = "HTTP/1.1"

    def do_GET(self):  # noqa: N802
        if self.path == "/healthz":
            self.answer(200, {"version": self.service.version})
        elif self.path == "/metrics":
            self.send(200, CONTENT_TYPE_LATEST, generate_latest(self.service.registry))
        else:
            self.answer(404, {"error": "there are /predict, /outcomes, /healthz and /metrics"})

    def do_POST(self):  # noqa: N802
        started = time.perf_counter()
        actions = {"/predict": self.service.predict, "/outcomes": self.service.learn_outcomes}
        action = actions.get(self.path)
        # A body that is not read would be taken for the next request.
        self.close_connection = True
        length = int(self.headers.get("Content-Length") or 0)
        if action is None or not 0 < length <= MAX_BODY:
            return self.answer(404 if action is None else 413, {"error": f"nothing to do for {self.path}"})
        try:
            result, code = action(json.loads(self.rfile.read(length))), 200
        except (KeyError, TypeError, ValueError) as error:
            result, code = {"error": f"the request cannot be understood: {error!r}"}, 400
        self.answer(code, result)
        self.service.requests.labels(self.path, code, self.service.version).inc()
        self.service.seconds.observe(time.perf_counter() - started)

    def answer(self, code: int, content: dict) -> None:
        self.send(code, "application/json", json.dumps(content).encode())

    def send(self, code: int, kind: str, body: bytes) -> None:
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Requests are counted, not logged: trips are nobody's business."""


class Server(ThreadingHTTPServer):
    daemon_threads = False
    request_queue_size = 128


def run() -> None:
    uri, version = os.environ.get("MODEL_URI", ""), os.environ.get("MODEL_VERSION", "") or "none"
    mount, claim = os.environ.get("MODEL_MOUNT", "/models"), os.environ.get("MODEL_CLAIM", "quickship")
    service = Service(Model.load(model_path(uri, claim, mount)) if uri else None, version)
    handler = type("BoundHandler", (Handler,), {"service": service})
    server = Server(("", int(os.environ.get("PORT", "8080"))), handler)
    # Open requests are answered before the process ends.
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    print(json.dumps({"listening": server.server_port, "version": version, "model": uri or None}), flush=True)
    server.serve_forever(poll_interval=0.1)
    server.server_close()
