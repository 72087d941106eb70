"""AgentRelay: mission control for command-line coding agents on any number of machines."""

__version__ = "0.1.0"
