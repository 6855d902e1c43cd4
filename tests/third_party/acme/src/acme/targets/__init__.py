"""The boards that Acme sells."""
