"""Tokenizers only: count tokens, choose which to keep, cut the others, and prove that nothing else changed."""
