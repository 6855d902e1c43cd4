"""The types of what every ``--json`` prints, one module a command. Types alone: they import nothing of edgekit.

`docs/make_schemas.py` writes docs/schemas/ from them, where the string below a key is its description; the tests
validate what the commands really print. So a key that is added to an object is added here too. A new key breaks no
reader; a key that goes, or that changes its type, does, and raises ``schema``.
"""
