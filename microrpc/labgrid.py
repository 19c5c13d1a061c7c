"""The driver for labgrid: needs `pip install 'microrpc[labgrid]'` (docs/lab.md).

imports: [microrpc.labgrid]
targets: {main: {resources: {RemotePlace: {name: desk-1}}, drivers: {MicrorpcDriver: {}}}}
"""

from __future__ import annotations

try:
    from microrpc.connecting.labgrid import MicrorpcDriver as MicrorpcDriver
except ModuleNotFoundError as error:
    if error.name not in ("attr", "labgrid"):
        raise
    raise ModuleNotFoundError(
        "labgrid is not installed here: pip install 'microrpc[labgrid]'", name=error.name
    ) from error

__all__ = ["MicrorpcDriver"]
