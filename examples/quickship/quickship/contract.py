"""The stage contract of Flywheel: the file that a stage reads and the result that it leaves.

Nothing here knows of Kubernetes: a stage is a process with one file to read and one file to write.
"""

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

API_VERSION = "flywheel.dev/stage/v1alpha1"
TERMINATION_MESSAGE = "/dev/termination-log"
MAX_RESULT_BYTES = 4096


@dataclass(frozen=True)
class Stage:
    """One attempt of one stage."""

    file: dict

    @classmethod
    def read(cls) -> "Stage":
        path = os.environ.get("FLYWHEEL_STAGE")
        if not path:
            raise SystemExit("FLYWHEEL_STAGE is not set: this program runs as a stage of a FlywheelPipeline")
        return cls(json.loads(Path(path).read_text()))

    def parameter(self, name: str) -> str:
        for parameter in self.file["parameters"]:
            if parameter["name"] == name:
                return parameter["value"]
        raise SystemExit(f"the parameter {name} is missing: add it to spec.parameters of the pipeline")

    def whole_number(self, name: str) -> int:
        value = self.parameter(name)
        try:
            return int(value)
        except ValueError:
            raise SystemExit(f"the parameter {name} is {value!r}, which is no whole number") from None

    @property
    def seed(self) -> int:
        return self.file["seed"]

    def input(self, name: str) -> Path:
        """The place of an input that must be there."""
        found = self.find(name)
        if found is None:
            known = ", ".join(i["name"] for i in self.file["inputs"]) or "none"
            raise SystemExit(f"the input {name} is missing; there are: {known}")
        return found

    def find(self, name: str) -> Path | None:
        """The place of an input that need not be there, such as the live version's model."""
        for entry in self.file["inputs"]:
            if entry["name"] == name:
                if "path" not in entry:
                    raise SystemExit(f"the input {name} lies at {entry['uri']}, and only pvc:// URIs are mounted")
                return Path(entry["path"])
        return None

    def live_version(self) -> str | None:
        for entry in self.file["inputs"]:
            if entry["role"] == "LiveVersion":
                return entry["version"]
        return None

    @property
    def output(self) -> Path:
        path = self.file["output"].get("path")
        if path is None:
            raise SystemExit("the artifact store must be a pvc:// URI: other stores are not mounted")
        return Path(path)

    def artifact(self, name: str, kind: str, file: str, **more) -> dict:
        """Describes a file below the output that has been written."""
        path = self.output / file
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        return {
            "name": name,
            "type": kind,
            "uri": f"{self.file['output']['uri']}/{file}",
            "digest": f"sha256:{digest}",
            "sizeBytes": path.stat().st_size,
            **more,
        }

    def finish(self, **result) -> None:
        """Leaves the result; what does not fit is an error here, not a surprise in the cluster."""
        text = json.dumps({"apiVersion": API_VERSION, "id": self.file["id"], **result}, separators=(",", ":"))
        if len(text.encode()) > MAX_RESULT_BYTES:
            raise SystemExit(f"the result has {len(text)} bytes, and a termination message holds {MAX_RESULT_BYTES}")
        Path(os.environ.get("TERMINATION_MESSAGE", TERMINATION_MESSAGE)).write_text(text)
        print(text)
