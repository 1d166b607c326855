"""What a model is, and how it is loaded, made again with other sizes and saved."""
