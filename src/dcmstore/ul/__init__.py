"""PS3.8 upper layer, acceptor side: bytes -> events. Pure: no socket, clock, thread, file or log."""
