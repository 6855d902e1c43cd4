"""The cases of `trust.py`: one kind of silent failure each, told by judges that share no code with edgekit."""
