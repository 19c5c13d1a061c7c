"""The server's side of the protocol (docs/protocol.md 5), for the simulator, for sharing, and for gateways."""
