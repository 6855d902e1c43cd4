"""The Acme engine for edgekit."""
