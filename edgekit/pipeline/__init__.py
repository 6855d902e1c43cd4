"""A model's way to a bundle: built, checked, repaired, timed, packed."""
