"""A small real cluster on this machine, its workload and its faults: the demo and the tests stand on it.

Everything it makes lies in one folder per cluster, which carries a marker file; nothing else is ever touched.
"""
