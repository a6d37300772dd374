"""The model: gradient-boosted trees for the delay of a trip, in one file with all that it needs to know."""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import lightgbm
import numpy as np

from . import features

PARAMETERS = {
    # The median is what minimises the mean absolute error, which is what travellers feel.
    "objective": "l1",
    "num_leaves": 31,
    "learning_rate": 0.1,
    "min_data_in_leaf": 50,
    "num_threads": 1,
    "deterministic": True,
    "force_row_wise": True,
    "verbose": -1,
}


@dataclass(frozen=True)
class Model:
    """A trained model: `predict` takes a table of arrivals, `predict_trip` one request."""

    columns: list[str]
    airports: list[str]
    booster: lightgbm.Booster

    @classmethod
    def train(cls, table, feature_set: str, trees: int, seed: int) -> "Model":
        if feature_set not in features.SETS:
            raise SystemExit(f"the parameter features is {feature_set!r}: choose one of {', '.join(features.SETS)}")
        columns, known = features.SETS[feature_set], features.airports(table)
        data = lightgbm.Dataset(
            features.from_table(table, columns, known),
            table["delay"].to_numpy().astype(np.float64),
            feature_name=columns,
            categorical_feature=features.CATEGORIES,
            params={"verbose": -1},
        )
        parameters = {**PARAMETERS, "seed": seed % (1 << 31)}
        return cls(columns, known, lightgbm.train(parameters, data, num_boost_round=trees))

    @classmethod
    def load(cls, path: Path) -> "Model":
        content = json.loads(path.read_text())
        booster = lightgbm.Booster(model_str=content["trees"])
        return cls(content["columns"], content["airports"], booster)

    def save(self, path: Path) -> None:
        content = {"columns": self.columns, "airports": self.airports, "trees": self.booster.model_to_string()}
        path.write_text(json.dumps(content))

    def predict(self, table) -> np.ndarray:
        rows = features.from_table(table, self.columns, self.airports)
        return self.known(rows, self.booster.predict(rows, num_threads=1))

    @cached_property
    def codes(self) -> dict[str, int]:
        return {name: code for code, name in enumerate(self.airports)}

    def predict_trip(self, trip: dict) -> float:
        row = features.from_request(trip, self.columns, self.codes)
        return float(self.known(row, self.booster.predict(row, num_threads=1))[0])

    def known(self, rows: np.ndarray, delays: np.ndarray) -> np.ndarray:
        """From an airport that was in no training row a trip is as late as in the timetable: not at all."""
        origin = rows[:, self.columns.index("origin")]
        return np.where(origin >= 0, delays, 0.0)
