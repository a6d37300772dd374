"""The service and its travellers, over real sockets on the loopback address."""

import io
import json
import tempfile
import threading
import unittest
from contextlib import redirect_stdout
from pathlib import Path
from urllib.request import urlopen

import pyarrow.parquet as pq

from quickship import drive, flights, serve
from tests.test_stages import timetable


class Running(unittest.TestCase):
    def setUp(self):
        self.service = serve.Service(None, "eta-1")
        handler = type("BoundHandler", (serve.Handler,), {"service": self.service})
        server = serve.Server(("127.0.0.1", 0), handler)
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        self.url = f"http://127.0.0.1:{server.server_port}"

    def test_travellers_get_answers_and_their_outcomes_become_metrics(self):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            pq.write_table(flights.arrivals(timetable(200)), flights.week_file(folder, 1))
            output = io.StringIO()
            with redirect_stdout(output):
                drive.run(folder, 1, self.url, rate=20, seconds=2)
        lines = [json.loads(line) for line in output.getvalue().splitlines()]
        self.assertEqual(sum(line["answers"].get("eta-1", 0) for line in lines), 40)
        self.assertEqual(sum(line["failed"] for line in lines), 0)
        metrics = urlopen(self.url + "/metrics").read().decode()
        taken = next(line for line in metrics.splitlines() if line.startswith("quickship_outcomes_total{"))
        self.assertIn('model_version="eta-1"', taken)
        self.assertGreaterEqual(float(taken.split()[-1]), 20)

    def test_a_replay_begins_at_the_hour_that_is_asked_for(self):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            table = flights.arrivals(timetable(200))
            pq.write_table(table, flights.week_file(folder, 1))
            with redirect_stdout(io.StringIO()) as output:
                drive.run(folder, 1, self.url, rate=200, seconds=1, from_hour=48)
        begin = flights.START + 48 * 60
        left = int((table["arrival"].to_numpy() >= begin).sum())
        lines = [json.loads(line) for line in output.getvalue().splitlines()]
        self.assertEqual(sum(line["answers"].get("eta-1", 0) for line in lines), left)
        self.assertLess(left, 200)

    def test_a_service_that_is_not_there_is_counted_as_failed(self):
        travellers = drive.Travellers("http://127.0.0.1:9")
        travellers.trips.put({"origin": "A", "destination": "B", "departure": flights.START.item(), "distance": 1, "delay": 1, "originDelay": None})
        travellers.trips.put(None)
        travellers.travel()
        self.assertEqual(travellers.turn_second().failed, 1)

    def test_nonsense_is_answered_with_400_and_health_with_the_version(self):
        travellers = drive.Travellers(self.url)
        with self.assertRaisesRegex(OSError, "status 400"):
            travellers.post("/outcomes", [1])
        self.assertEqual(json.loads(urlopen(self.url + "/healthz").read()), {"version": "eta-1"})


class Models(unittest.TestCase):
    def test_a_claim_becomes_the_place_where_it_is_mounted(self):
        self.assertEqual(serve.model_path("pvc://quickship/a/model.json", "quickship", "/models"), Path("/models/a/model.json"))
        with self.assertRaisesRegex(SystemExit, "mounts only the claim"):
            serve.model_path("s3://bucket/model.json", "quickship", "/models")


if __name__ == "__main__":
    unittest.main()
