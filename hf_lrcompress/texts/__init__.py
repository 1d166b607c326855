"""Languages, and corpora in them: where they come from, how they are read, cut and counted."""
