"""The runner: the daemon on a machine that runs agents, and the keeper beside it.

What the keeper needs of this package is importable without the rest.
"""
