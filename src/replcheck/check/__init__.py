"""Policy and controls: pure evaluation of what is in the store, and of one look at the nodes.

Nothing here reads a clock, a file or a server. Whatever is unknown is a fact with its reason, and never counts as good.
"""
