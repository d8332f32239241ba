"""Prove that PostgreSQL replicas are copies and that backups restore."""

__version__ = "0.1.0"
