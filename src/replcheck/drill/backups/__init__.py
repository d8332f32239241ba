"""What a restore starts from, one module a kind, behind the interface in `source`."""
