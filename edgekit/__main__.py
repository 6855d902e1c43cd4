"""``python -m edgekit`` is ``edgekit``."""

from .cli import main

if __name__ == "__main__":
    main()
