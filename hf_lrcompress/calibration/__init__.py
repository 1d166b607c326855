"""What is measured on text before a model is cut."""
