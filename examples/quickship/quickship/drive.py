"""The travellers: they ask for the trips of one week in the order in which these arrived, and tell how each trip went.

The number of requests and the time are bounded. Every second one JSON line says what happened in it.
"""

import http.client
import json
import queue
import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

from . import features, flights

TIMEOUT_SECONDS = 5
WORKERS = 8


@dataclass
class Second:
    """What was seen in one second, by version."""

    answers: dict = field(default_factory=lambda: defaultdict(int))
    error: dict = field(default_factory=lambda: defaultdict(float))
    failed: int = 0
    reasons: dict = field(default_factory=lambda: defaultdict(int))
    slowest: float = 0.0
    outcomes: list = field(default_factory=list)

    def line(self, at: float, week: int) -> str:
        content = {
            "at": round(at, 3),
            "week": week,
            "answers": dict(self.answers),
            "errorMinutes": {version: round(total, 2) for version, total in self.error.items()},
            "failed": self.failed,
            "slowestMs": round(self.slowest * 1000, 1),
        }
        if self.reasons:
            content["reasons"] = dict(self.reasons)
        return json.dumps(content)


class Travellers:
    def __init__(self, url: str):
        parts = urlsplit(url)
        self.host, self.port = parts.hostname, parts.port or 80
        self.lock, self.second = threading.Lock(), Second()
        self.trips: queue.Queue = queue.Queue(maxsize=1000)

    def post(self, path: str, content) -> dict:
        """One connection for each request, so that the Service and not the connection chooses the pod."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=TIMEOUT_SECONDS)
        try:
            connection.request("POST", path, json.dumps(content), {"Connection": "close"})
            response = connection.getresponse()
            body = response.read()
            if response.status != 200:
                raise OSError(f"status {response.status}")
            return json.loads(body)
        finally:
            connection.close()

    def travel(self) -> None:
        while (row := self.trips.get()) is not None:
            started = time.perf_counter()
            try:
                answer = self.post("/predict", features.request(row))
                predicted, version = float(answer["delay"]), answer["version"]
            except (OSError, http.client.HTTPException, ValueError, KeyError) as error:
                with self.lock:
                    self.second.failed += 1
                    self.second.reasons[f"{type(error).__name__}: {error}"[:120]] += 1
                continue
            outcome = {"version": version, "predicted": predicted, "actual": row["delay"]}
            with self.lock:
                self.second.answers[version] += 1
                self.second.error[version] += abs(predicted - row["delay"])
                self.second.slowest = max(self.second.slowest, time.perf_counter() - started)
                self.second.outcomes.append(outcome)

    def tell(self, outcomes: list[dict]) -> None:
        try:
            if outcomes:
                self.post("/outcomes", outcomes)
        except (OSError, http.client.HTTPException, ValueError) as error:
            with self.lock:
                self.second.failed += 1
                self.second.reasons[f"outcomes: {type(error).__name__}: {error}"[:120]] += 1

    def turn_second(self) -> Second:
        with self.lock:
            ended, self.second = self.second, Second()
        return ended


def run(folder: Path, week: int, url: str, rate: int, seconds: int, from_hour: int = 0) -> None:
    table = flights.read_week(folder, week)
    begin = flights.START + np.timedelta64((week - 1) * flights.WEEK + from_hour * 60, "m")
    first = int(np.searchsorted(table["arrival"].to_numpy().astype("datetime64[m]"), begin))
    table = table.slice(first, rate * seconds)
    table = table.select(["departure", "distance", "origin", "destination", "delay", "originDelay"])
    travellers = Travellers(url)
    workers = [threading.Thread(target=travellers.travel, daemon=True) for _ in range(WORKERS)]
    for worker in workers:
        worker.start()
    started = time.monotonic()
    for second in range(min(seconds, -(-table.num_rows // rate))):
        rows = table.slice(second * rate, rate).to_pylist()
        for number, row in enumerate(rows):
            pause = started + second + number / rate - time.monotonic()
            if pause > 0:
                time.sleep(pause)
            travellers.trips.put(row)
        ended = travellers.turn_second()
        print(ended.line(time.time(), week), flush=True)
        # The replay is quicker than the trips: how they went is known a second later.
        threading.Thread(target=travellers.tell, args=(ended.outcomes,), daemon=True).start()
    for _ in workers:
        travellers.trips.put(None)
    for worker in workers:
        worker.join(TIMEOUT_SECONDS + 1)
    ended = travellers.turn_second()
    travellers.tell(ended.outcomes)
    print(ended.line(time.time(), week), flush=True)
