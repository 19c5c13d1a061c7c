"""What waits: serial ports, TCP connections and Unix sockets as channels with deadlines."""
