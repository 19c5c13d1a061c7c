"""The old name of `microrpc.firmware.emulator`, which still works."""

from microrpc._names import moved

__getattr__ = moved(
    __name__, {"microrpc.firmware.emulator": "Emulator START_S build_to_run start_emulated start_firmware"}
)
