"""``python -m stream`` is the command ``nudge``."""

from stream.cli import main

if __name__ == "__main__":
    main()
