"""message -> response: what this AE does for a peer, one class a service."""
