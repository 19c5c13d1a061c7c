"""The recordings in tests/vectors/ (its README.md says what they are)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

VECTORS = Path(__file__).parent / "vectors"
NAMES = sorted(path.stem for path in VECTORS.glob("*.jsonl"))


@dataclass(frozen=True, slots=True)
class Burst:
    """What one side ("host" or "device") sent at once."""

    dir: str
    data: bytes


def load(name: str) -> list[Burst]:
    """The bursts of the recording `name` (one of NAMES), in the order in which they crossed the line."""
    lines = (VECTORS / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    objects = [json.loads(line) for line in lines if line]
    return [Burst(item["dir"], bytes.fromhex(item["hex"])) for item in objects if "hex" in item]


def stream(name: str, direction: str) -> bytes:
    """All that `direction` ("host" or "device") sent in the recording `name`."""
    return b"".join(burst.data for burst in load(name) if burst.dir == direction)
