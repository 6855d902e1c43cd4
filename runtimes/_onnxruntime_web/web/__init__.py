"""What a bundle's ``web/`` folder gets: the ES module, the demo page, and a server for it."""
