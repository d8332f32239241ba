"""Trial restores: from a backup to a verdict about its rows, its recovery point and its recovery time.

Nothing here touches a backup other than by reading it, and a scratch server can reach nothing and overwrite nothing.
"""
