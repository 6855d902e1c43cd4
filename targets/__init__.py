"""Target profiles: TOML files, read by edgekit.target.load."""
