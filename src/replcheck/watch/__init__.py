"""The sampler, and the topology and events of a cluster's life, folded purely from its samples.

Only `sampler` speaks to a server and only `replay` to a file; everything else takes values and returns values.
"""
