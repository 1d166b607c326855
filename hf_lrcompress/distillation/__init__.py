"""Distilling a small encoder from a large one: losses, the Trainer, and what training is measured by."""
