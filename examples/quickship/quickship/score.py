"""How well versions would have done in every week, for the report: one JSON line for each version and week."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa

from . import flights, stages
from .model import Model

# A fourth of the flights is enough for a picture.
EVERY = 4


def run(folder: Path, first: int, last: int, models: list[str]) -> None:
    loaded = [(name, Model.load(Path(path))) for name, path in (model.split("=", 1) for model in models)]
    facts = flights.read_facts(folder)
    for week in range(first, last + 1):
        table = flights.read_week(folder, week)
        table = table.take(pa.array(np.arange(0, table.num_rows, EVERY)))
        small = np.asarray(stages.is_small(table, facts))
        for name, model in loaded:
            error = stages.errors(model, table)
            numbers = {"all": error.mean(), "small": error[small].mean(), "hub": error[~small].mean()}
            rounded = {key: round(float(value), 4) for key, value in numbers.items()}
            print(json.dumps({"week": week, "version": name, **rounded}), flush=True)
