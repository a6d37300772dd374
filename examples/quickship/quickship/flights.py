"""The arrivals: real flights, cleaned, and cut into the weeks in which they arrived."""

import json
from datetime import datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

START = np.datetime64("2001-01-01T00:00", "m")
WEEK = 7 * 24 * 60
# A flight that is more than an hour early or five hours late is a wrong entry or another trip.
EARLIEST, LATEST = -60, 300
# The table has no arrival times: half an hour on the ground, then eight miles a minute.
GROUND_MINUTES, MILES_PER_MINUTE = 30, 8
# What is known of an airport when a flight departs: the delays of the last two hours' arrivals.
RECENT_MINUTES = 120


def clean(table: pa.Table) -> tuple[pa.Table, list[dict]]:
    """The flights that can be used, and how many were dropped for which reason."""
    dropped = []

    def keep(table: pa.Table, reason: str, mask) -> pa.Table:
        kept = table.filter(mask)
        dropped.append({"reason": reason, "count": table.num_rows - kept.num_rows})
        return kept

    table = keep(table, "early-by-more-than-1h", pc.greater_equal(table["delay"], EARLIEST))
    table = keep(table, "late-by-more-than-5h", pc.less_equal(table["delay"], LATEST))
    departure = table["date"].to_numpy().astype("datetime64[m]").astype(np.int64)
    code = _codes(table)
    columns = [departure, *code, table["delay"].to_numpy(), table["distance"].to_numpy()]
    order = np.lexsort(columns)
    same = np.ones(len(order), dtype=bool)
    for column in columns:
        same[1:] &= column[order][1:] == column[order][:-1]
    same[:1] = False
    twice = np.zeros(len(order), dtype=bool)
    twice[order] = same
    return keep(table, "entered-twice", pa.array(~twice)), dropped


def _codes(table: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    both = pa.concat_arrays([c.combine_chunks() if isinstance(c, pa.ChunkedArray) else c for c in (table["origin"], table["destination"])])
    codes = pc.dictionary_encode(both).indices.to_numpy()
    return codes[: table.num_rows], codes[table.num_rows :]


def arrivals(table: pa.Table) -> pa.Table:
    """One row for each trip, in the order of arrival."""
    departure = table["date"].to_numpy().astype("datetime64[m]")
    delay, distance = table["delay"].to_numpy(), table["distance"].to_numpy()
    minutes = GROUND_MINUTES + distance // MILES_PER_MINUTE + delay
    arrival = departure + minutes.astype("timedelta64[m]")
    origin, destination = _codes(table)
    week = (arrival - START).astype(np.int64) // WEEK + 1
    columns = {
        "departure": departure.astype("datetime64[s]"),
        "arrival": arrival.astype("datetime64[s]"),
        "week": week.astype(np.int16),
        "origin": table["origin"].combine_chunks(),
        "destination": table["destination"].combine_chunks(),
        "distance": distance.astype(np.int16),
        "delay": delay.astype(np.int16),
        "originDelay": recent_delay(origin, destination, departure, arrival, delay),
    }
    all_of_them = pa.table(columns)
    return all_of_them.take(pa.array(np.argsort(arrival, kind="stable")))


def recent_delay(origin, destination, departure, arrival, delay) -> np.ndarray:
    """Mean delay, in minutes, of the flights that reached the origin in the two hours before each departure."""
    span = 1 << 24
    at = lambda moment: (moment - START).astype(np.int64) + span // 2  # noqa: E731
    keys = destination.astype(np.int64) * span + at(arrival)
    order = np.argsort(keys, kind="stable")
    keys, sums = keys[order], np.concatenate([[0], np.cumsum(delay[order])])
    now = origin.astype(np.int64) * span + at(departure)
    first, last = np.searchsorted(keys, now - RECENT_MINUTES, "right"), np.searchsorted(keys, now, "right")
    count = last - first
    mean = (sums[last] - sums[first]) / np.maximum(count, 1)
    return np.where(count > 0, mean, np.nan).astype(np.float32)


def small_airports(table: pa.Table) -> list[str]:
    """The smaller three quarters of the airports, by departures in the first two weeks."""
    first = table.filter(pc.less_equal(table["week"], 2))
    counts = {pair["values"]: pair["counts"] for pair in pc.value_counts(first["origin"]).to_pylist()}
    names = set(pc.unique(table["origin"]).to_pylist()) | set(pc.unique(table["destination"]).to_pylist())
    by_size = sorted(names, key=lambda name: (counts.get(name, 0), name))
    return sorted(by_size[: len(by_size) * 3 // 4])


def week_file(folder: Path, week: int) -> Path:
    return folder / f"week-{week:02}.parquet"


def read_week(folder: Path, week: int) -> pa.Table:
    path = week_file(folder, week)
    if not path.exists():
        raise SystemExit(f"week {week} has not arrived: {path} is not there")
    return pq.read_table(path)


def read_facts(folder: Path) -> dict:
    return json.loads((folder / "facts.json").read_text())


def window(first: int, last: int) -> dict:
    """The time from the start of one week to the end of another, in the words of the stage contract."""
    start = datetime(2001, 1, 1, tzinfo=timezone.utc)
    text = lambda weeks: (start + timedelta(weeks=weeks)).strftime("%Y-%m-%dT%H:%M:%SZ")  # noqa: E731
    return {"start": text(first - 1), "end": text(last)}


def prepare(source: Path, folder: Path) -> dict:
    """Writes one file for each week of arrival, and what was found out on the way."""
    table, dropped = clean(pq.read_table(source))
    table = arrivals(table)
    folder.mkdir(parents=True, exist_ok=True)
    weeks = {}
    for week in range(1, int(pc.max(table["week"]).as_py())):
        rows = table.filter(pc.equal(table["week"], week)).drop_columns(["week"])
        pq.write_table(rows, week_file(folder, week), compression="zstd")
        weeks[str(week)] = rows.num_rows
    facts = {"dropped": dropped, "weeks": weeks, "smallAirports": small_airports(table)}
    # Written last: who finds the facts finds all weeks.
    (folder / "facts.json").write_text(json.dumps(facts))
    return facts
