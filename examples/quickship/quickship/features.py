"""What the model sees of a trip: the same columns from the table of arrivals and from a request.

There are two sets. `schedule` is known when a trip is booked. `live` adds the recent delay at the origin. The table
holds it in minutes. The app sends it in seconds, and nobody told the model's authors: a trap that no evaluation on the
table can see. The demo walks into it on purpose.
"""

from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

SETS = {
    "schedule": ["hour", "weekday", "distance", "origin", "destination"],
    "live": ["hour", "weekday", "distance", "origin", "destination", "originDelay"],
}
CATEGORIES = ["origin", "destination"]


def airports(table: pa.Table) -> list[str]:
    """The airports of the training rows; others are unknown to the model."""
    return sorted(set(pc.unique(table["origin"]).to_pylist()) | set(pc.unique(table["destination"]).to_pylist()))


def from_table(table: pa.Table, names: list[str], known: list[str]) -> np.ndarray:
    departure = table["departure"].to_numpy().astype("datetime64[m]")
    day = departure.astype("datetime64[D]")
    codes = lambda column: pc.index_in(column, value_set=pa.array(known, table["origin"].type))  # noqa: E731
    columns = {
        "hour": lambda: (departure - day).astype(np.int64) / 60,
        # The first day of 1970 was a Thursday.
        "weekday": lambda: (day.astype(np.int64) + 3) % 7,
        "distance": lambda: table["distance"].to_numpy(),
        "origin": lambda: codes(table["origin"]).to_numpy(),
        "destination": lambda: codes(table["destination"]).to_numpy(),
        "originDelay": lambda: table["originDelay"].to_numpy(),
    }
    return np.column_stack([np.asarray(columns[name](), dtype=np.float64) for name in names])


def from_request(trip: dict, names: list[str], codes: dict[str, int]) -> np.ndarray:
    departure = datetime.fromisoformat(trip["departure"])
    recent = trip.get("originDelay")
    columns = {
        "hour": departure.hour + departure.minute / 60,
        "weekday": departure.weekday(),
        "distance": trip["distance"],
        "origin": codes.get(trip["origin"], np.nan),
        "destination": codes.get(trip["destination"], np.nan),
        "originDelay": np.nan if recent is None else recent,
    }
    return np.array([[columns[name] for name in names]], dtype=np.float64)


def request(row: dict) -> dict:
    """The request that the app sends for a trip; it has no other fields, so nothing else can leak."""
    recent = row["originDelay"]
    unknown = recent is None or recent != recent
    return {
        "origin": row["origin"],
        "destination": row["destination"],
        "departure": row["departure"].isoformat(timespec="minutes"),
        "distance": row["distance"],
        "originDelay": None if unknown else round(float(recent) * 60),
    }
