"""Target profiles: what they state, how they are read, what they need of this machine."""
