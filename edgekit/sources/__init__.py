"""One module per kind of source, and what they share. `edgekit.source` is the way in."""
