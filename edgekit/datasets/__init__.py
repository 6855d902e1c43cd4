"""One module per form of data, and what they share. `edgekit.data` is the way in."""
