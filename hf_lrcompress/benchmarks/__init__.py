"""What `hf-lrcompress benchmark` measures: this package beside what it replaces."""
