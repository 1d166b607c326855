"""Studies: many runs that differ in little, made beside each other and compared."""
