"""quickship: predicts how late a trip will be. Stages read the file named by FLYWHEEL_STAGE."""

import argparse
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(prog="quickship", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in [("collect", "Chooses the rows"), ("train", "Trains"), ("evaluate", "Evaluates")]:
        commands.add_parser(name, help=f"{text}: a stage of the pipeline.")
    prepare = commands.add_parser("prepare", help="Cleans the flights and cuts them into weeks.")
    prepare.add_argument("--source", type=Path, required=True, help="The file flights-3m.parquet.")
    prepare.add_argument("--into", type=Path, required=True, help="The folder that gets one file for each week.")
    commands.add_parser("serve", help="Answers requests with the model that MODEL_URI names.")
    drive = commands.add_parser("drive", help="Asks for the trips of one week, and tells how they went.")
    drive.add_argument("--arrivals", type=Path, required=True)
    drive.add_argument("--week", type=int, required=True)
    drive.add_argument("--url", required=True)
    drive.add_argument("--rate", type=int, default=40, help="Requests per second.")
    drive.add_argument("--from-hour", type=int, default=0, help="Begin so many hours after the week's first minute.")
    drive.add_argument("--seconds", type=int, default=300, help="Ends after this time.")
    score = commands.add_parser("score", help="Scores models on many weeks.")
    score.add_argument("--arrivals", type=Path, required=True)
    score.add_argument("--first", type=int, required=True)
    score.add_argument("--last", type=int, required=True)
    score.add_argument("model", nargs="+", help="NAME=PATH")
    arguments = parser.parse_args()
    run(arguments)


def run(arguments: argparse.Namespace) -> None:
    # Each command imports what it needs: a service that starts quickly is a rollout that goes quickly.
    match arguments.command:
        case "collect" | "train" | "evaluate":
            from . import stages
            from .contract import Stage

            getattr(stages, arguments.command)(Stage.read())
        case "prepare":
            import json

            from . import flights

            print(json.dumps(flights.prepare(arguments.source, arguments.into)))
        case "serve":
            from . import serve

            serve.run()
        case "drive":
            from . import drive

            a = arguments
            drive.run(a.arrivals, a.week, a.url, a.rate, a.seconds, a.from_hour)
        case "score":
            from . import score

            score.run(arguments.arrivals, arguments.first, arguments.last, arguments.model)


if __name__ == "__main__":
    main()
