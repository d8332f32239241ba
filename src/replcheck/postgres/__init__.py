"""All that speaks to a PostgreSQL server or runs its programs; nothing above imports the driver."""
