"""Real models that edgekit is shown and tested with."""
