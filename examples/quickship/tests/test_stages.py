"""The stages on a small made-up timetable, as Flywheel runs them: one file in, one file out."""

import json
import os
import tempfile
import unittest
from pathlib import Path
from unittest import mock

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from quickship import features, flights, stages, statistics
from quickship.contract import Stage
from quickship.model import Model


def timetable(rows: int = 6000) -> pa.Table:
    """Four weeks in which SLO is always half an hour late, and OKC is not."""
    rng = np.random.default_rng(1)
    date = flights.START + (np.sort(rng.random(rows)) * 4 * flights.WEEK).astype(int).astype("timedelta64[m]")
    origin = rng.choice(["BIG", "OKC", "SLO", "TNY"], rows, p=[0.6, 0.2, 0.15, 0.05])
    delay = np.where(origin == "SLO", 30, 0) + rng.integers(-5, 6, rows)
    columns = {"date": date.astype("datetime64[us]"), "delay": delay, "distance": np.full(rows, 400)}
    return pa.table({**columns, "origin": origin, "destination": np.full(rows, "BIG")})


class Prepared(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = Path(folder.name)
        pq.write_table(timetable(), self.root / "flights.parquet")
        self.facts = flights.prepare(self.root / "flights.parquet", self.root / "arrivals")

    def stage(self, name: str, action, inputs: dict, live: str | None = None, **parameters) -> dict:
        defaults = {"week": 3, "weeks": 3, "rows": 3000, "airports": "all", "features": "schedule", "trees": 30}
        output = self.root / name
        output.mkdir(exist_ok=True)
        entries = [{"name": k, "role": "Artifact", "uri": f"pvc://c/{k}", "path": str(v)} for k, v in inputs.items()]
        for entry in entries:
            if entry["name"] == "live.model":
                entry.update(role="LiveVersion", version=live)
        file = {
            "id": f"uid/{name}/1",
            "inputs": entries,
            "output": {"uri": f"pvc://c/{name}", "path": str(output)},
            "parameters": [{"name": k, "value": str(v)} for k, v in {**defaults, **parameters}.items()],
            "seed": 7,
        }
        message = self.root / f"{name}.json"
        with mock.patch.dict(os.environ, {"TERMINATION_MESSAGE": str(message)}):
            action(Stage(file))
        return json.loads(message.read_text())

    def turn(self, name: str, live: Path | None = None, **parameters) -> dict:
        collect, train = self.root / f"{name}-collect", self.root / f"{name}-train"
        arrivals = self.root / "arrivals"
        self.stage(collect.name, stages.collect, {"arrivals": arrivals}, **parameters)
        self.stage(train.name, stages.train, {"collect.rows": collect / stages.ROWS}, **parameters)
        inputs = {"arrivals": arrivals, "collect.later": collect / stages.LATER_ROWS, "train.model": train / "model.json"}
        if live:
            inputs["live.model"] = live
        return self.stage(f"{name}-evaluate", stages.evaluate, inputs, live="eta-1", **parameters)

    def test_a_turn_learns_what_is_late(self):
        result = self.turn("first")
        metric = result["metrics"][0]
        self.assertLess(metric["value"], 4)
        self.assertTrue(metric["low"] < metric["value"] < metric["high"])
        self.assertNotIn("baseline", metric)

    def test_the_live_version_is_judged_on_the_same_rows(self):
        self.turn("live", weeks=1, trees=1)
        result = self.turn("better", live=self.root / "live-train/model.json")
        metric = result["metrics"][0]
        self.assertEqual(metric["baseline"]["version"], "eta-1")
        self.assertLess(metric["baseline"]["high"], 0, "a model of one tree is worse")
        difference = metric["value"] - metric["baseline"]["value"]
        self.assertAlmostEqual(difference, metric["baseline"]["difference"], places=3)
        table = result["groups"][0]
        self.assertEqual([row[0] for row in table["rows"]], ["small", "hub"])
        self.assertTrue(all(len(row) == len(table["columns"]) for row in table["rows"]))
        self.assertEqual(sum(row[1] for row in table["rows"]), metric["samples"])

    def test_training_never_sees_the_newest_week(self):
        result = self.stage("c", stages.collect, {"arrivals": self.root / "arrivals"})
        rows, later = result["artifacts"]
        self.assertEqual(rows["window"], {"start": "2001-01-01T00:00:00Z", "end": "2001-01-15T00:00:00Z"})
        self.assertEqual(later["window"]["start"], rows["window"]["end"])
        newest = pq.read_table(self.root / "c" / stages.ROWS)["arrival"].to_numpy().max()
        self.assertLess(newest, flights.START + 2 * flights.WEEK)

    def test_a_hub_model_answers_for_unknown_airports_as_the_timetable_does(self):
        self.turn("hubs", airports="hubs")
        model = Model.load(self.root / "hubs-train/model.json")
        trip = {"origin": "TNY", "destination": "BIG", "departure": "2001-01-20T08:00", "distance": 400}
        self.assertEqual(model.predict_trip(trip), 0.0)

    def test_a_week_that_has_not_arrived_is_named(self):
        with self.assertRaisesRegex(SystemExit, r"week 37 has not arrived"):
            self.stage("c", stages.collect, {"arrivals": self.root / "arrivals"}, week=40)

    def test_a_result_too_large_for_a_termination_message_is_refused(self):
        with self.assertRaisesRegex(SystemExit, "4096"):
            Stage({"id": "x"}).finish(metrics=["x" * 5000])


class Cleaning(unittest.TestCase):
    def test_dirt_is_dropped_and_counted_by_reason(self):
        good = timetable(50)
        bad = good.slice(0, 3).set_column(1, "delay", pa.array([-1116, 1688, 0]))
        table, dropped = flights.clean(pa.concat_tables([good, bad.slice(0, 2), good.slice(5, 1)]))
        self.assertEqual(table.num_rows, 50)
        self.assertEqual([d["count"] for d in dropped], [1, 1, 1])

    def test_the_recent_delay_knows_nothing_of_the_future(self):
        at = lambda *minutes: flights.START + np.array(minutes)  # noqa: E731
        recent = flights.recent_delay(
            np.array([0, 1, 1]), np.array([1, 0, 0]), at(0, 60, 300), at(50, 100, 400), np.array([12, 0, 0])
        )
        # The second flight leaves airport 1 ten minutes after the first has arrived there, the third hours later.
        self.assertEqual(recent[1], 12)
        self.assertTrue(np.isnan(recent[0]) and np.isnan(recent[2]))


class Features(unittest.TestCase):
    def test_a_request_and_the_table_say_the_same_of_what_is_known_when_booking(self):
        table = flights.arrivals(timetable(300))
        columns, known = features.SETS["schedule"], ["BIG", "OKC", "SLO", "TNY"]
        rows = features.from_table(table, columns, known)
        codes = {name: code for code, name in enumerate(known)}
        for index, row in enumerate(table.slice(0, 20).to_pylist()):
            seen = features.from_request(features.request(row), columns, codes)[0]
            np.testing.assert_allclose(seen, rows[index])


class Intervals(unittest.TestCase):
    def test_clusters_that_move_together_make_the_interval_wider(self):
        rng = np.random.default_rng(3)
        days = np.repeat(np.arange(50), 20)
        values = np.repeat(rng.normal(size=50), 20)
        alone = statistics.mean(values, np.arange(1000))
        together = statistics.mean(values, days)
        self.assertGreater(together[2] - together[1], 3 * (alone[2] - alone[1]))


if __name__ == "__main__":
    unittest.main()
