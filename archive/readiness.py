"""Which parts of a running archive are up, in a file that the supervisor keeps."""

import os
from pathlib import Path
from typing import Final

import orjson

RUN_FOLDER: Final = "run"
_FILE: Final = "ready.json"


def write_readiness(data_dir: Path, state: dict[str, bool]) -> None:
    """Write which parts are up, by name; readers never see half of it."""
    file = data_dir / RUN_FOLDER / _FILE
    part = file.with_suffix(f".{os.getpid()}")
    part.write_bytes(orjson.dumps(state))
    part.rename(file)


def read_readiness(data_dir: Path) -> dict[str, bool]:
    """Return which parts are up; empty when no supervisor runs this archive."""
    try:
        state: dict[str, bool] = orjson.loads((data_dir / RUN_FOLDER / _FILE).read_bytes())
    except (FileNotFoundError, orjson.JSONDecodeError):
        return {}
    return state
