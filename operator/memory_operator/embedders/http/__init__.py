"""HTTP calls to a vendor: address, headers, body, reply, status."""
