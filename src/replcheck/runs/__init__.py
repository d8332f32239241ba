"""One function a use case: it locks, names the run, feeds the sinks, keeps the record and returns it.

The command line, the screen and the tests all enter here; nothing here renders.
"""
