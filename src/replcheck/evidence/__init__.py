"""Evidence that others can verify: signatures today, records and their chain later."""
