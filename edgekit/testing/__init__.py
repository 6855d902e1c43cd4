"""Conformance kits for plug-in authors: subclass one, supply its fixture, run pytest."""
