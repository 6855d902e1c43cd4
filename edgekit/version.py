"""edgekit's version, for whoever needs nothing else."""

__version__ = "0.1.0"
