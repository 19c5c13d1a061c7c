"""One line of the table, and what its figures are made of."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple


class Row(NamedTuple):
    """One line of the table; `raw` goes into the JSON, for plots and for comparing runs."""

    name: str
    value: str
    unit: str
    spread: str
    remark: str
    raw: Mapping[str, Any] = MappingProxyType({})


def quantile(sorted_values: list[float], share: float) -> float:
    return sorted_values[round(share * (len(sorted_values) - 1))]
