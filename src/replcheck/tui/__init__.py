"""The live screen: a reader of updates, and never of a server, a driver or a file.

What is shown is a fold over updates (`state`), drawn by pure functions (`draw`) inside thin widgets. This package alone
imports Textual, and nothing imports it but the command that starts it.
"""
