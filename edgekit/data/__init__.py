"""What the user named as ``--data`` → samples that fit the model. `edgekit.data.load` is the way in."""
