"""What people and machines read of a run: pure functions of its frozen result.

Nothing here looks anything up, and no report holds a row's value, a key, a password or a connection string.
"""
