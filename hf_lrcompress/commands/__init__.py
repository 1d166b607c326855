"""The commands: each adds its options to a parser, and runs what was given."""
