"""A teacher and texts that packages on PyPI carry, for runs without the Hub."""
