"""A run: its configuration, its plan, its preparation and its folder."""
