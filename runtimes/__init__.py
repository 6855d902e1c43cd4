"""Adapters to engines, one a module, called as the module, its class in ``PLUGIN`` (see contracts.Runtime).

Device floor: the standard library and numpy; an engine is imported only when it is opened. Imports from edgekit are
relative, because this folder ships inside every bundle under a name of the bundle's own.
"""
