"""What a run leaves to be read: its report, its model card, and the model on the Hub."""
