"""What the user named as the model → a `Source`, one module a kind. `edgekit.sources.load` is the way in."""
