from pathlib import Path
import microrpc.capture
DISSECTOR = Path(microrpc.capture.__file__).parent / "plugins" / "wireshark" / "microrpc.lua"
