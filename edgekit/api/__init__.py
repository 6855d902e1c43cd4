"""What a person asks for, one function a module; `edgekit` offers them."""
