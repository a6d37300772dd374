"""The stages of the pipeline: collect what has arrived, train on it, and evaluate on flights that came later."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from . import flights, statistics
from .contract import Stage
from .model import Model

ROWS, LATER_ROWS = "rows.parquet", "later.parquet"


def collect(stage: Stage) -> None:
    """The weeks before the newest one are for training, the newest one is for the evaluation."""
    folder, week = stage.input("arrivals"), stage.whole_number("week")
    first = max(1, week - stage.whole_number("weeks"))
    facts = flights.read_facts(folder)
    rows = pa.concat_tables([flights.read_week(folder, w) for w in range(first, week)])
    if stage.parameter("airports") == "hubs":
        rows = rows.filter(pc.invert(is_small(rows, facts)))
    elif stage.parameter("airports") != "all":
        raise SystemExit("the parameter airports must be all or hubs")
    rows = sample(rows, stage.whole_number("rows"), stage.seed)
    later = flights.read_week(folder, week)
    write = lambda table, file: pq.write_table(table, stage.output / file, compression="zstd")  # noqa: E731
    write(rows, ROWS)
    write(later, LATER_ROWS)
    stage.finish(
        artifacts=[
            stage.artifact("rows", "Dataset", ROWS, records=rows.num_rows, window=flights.window(first, week - 1)),
            stage.artifact("later", "Dataset", LATER_ROWS, records=later.num_rows, window=flights.window(week, week)),
        ],
        # A flight in this table has no passenger, so there is nobody to ask for consent.
        attestations={"anonymized": True, "dropped": facts["dropped"]},
    )


def is_small(table: pa.Table, facts: dict) -> pa.Array:
    small = pa.array(facts["smallAirports"], table["origin"].type)
    return pc.is_in(table["origin"], value_set=small)


def sample(table: pa.Table, size: int, seed: int) -> pa.Table:
    if table.num_rows <= size:
        return table
    chosen = np.random.default_rng(seed).choice(table.num_rows, size, replace=False)
    return table.take(pa.array(np.sort(chosen)))


def train(stage: Stage) -> None:
    table = pq.read_table(stage.input("collect.rows"))
    model = Model.train(table, stage.parameter("features"), stage.whole_number("trees"), stage.seed)
    model.save(stage.output / "model.json")
    stage.finish(artifacts=[stage.artifact("model", "Model", "model.json")])


def evaluate(stage: Stage) -> None:
    """The candidate and the live version on the same later rows."""
    table = pq.read_table(stage.input("collect.later"))
    facts = flights.read_facts(stage.input("arrivals"))
    candidate = errors(Model.load(stage.input("train.model")), table)
    live = stage.find("live.model")
    baseline = None if live is None else errors(Model.load(live), table)
    stage.finish(**judge(table, is_small(table, facts), candidate, baseline, stage.live_version()))


def errors(model: Model, table: pa.Table) -> np.ndarray:
    return np.abs(model.predict(table) - table["delay"].to_numpy())


def judge(table: pa.Table, small: pa.Array, candidate, baseline, live: str | None) -> dict:
    """The mean absolute error of all flights, and of small airports and hubs, as the stage contract wants it."""
    clusters = statistics.clusters(table)

    def row(mask: np.ndarray) -> list:
        numbers = [*statistics.mean(candidate[mask], clusters[mask])]
        if baseline is not None:
            numbers.append(float(baseline[mask].mean()))
            numbers += statistics.mean(candidate[mask] - baseline[mask], clusters[mask])
        return [int(mask.sum()), *(round(number, 4) for number in numbers)]

    everything = row(np.ones(len(candidate), dtype=bool))
    metric = dict(zip(["samples", "value", "low", "high"], everything))
    if baseline is not None:
        metric["baseline"] = {"version": live, **dict(zip(["value", "difference", "low", "high"], everything[4:]))}
    columns = ["group", "samples", "value", "low", "high"]
    if baseline is not None:
        columns += ["baseline", "difference", "differenceLow", "differenceHigh"]
    small = np.asarray(small)
    groups = [["small", *row(small)], ["hub", *row(~small)]]
    table_of_groups = {"attribute": "airport", "metric": "mae", "level": statistics.LEVEL}
    return {
        "metrics": [{"name": "mae", "level": statistics.LEVEL, **metric}],
        "groups": [{**table_of_groups, "columns": columns, "rows": groups}],
    }
