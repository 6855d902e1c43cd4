"""What a network costs, and what breaks it."""
