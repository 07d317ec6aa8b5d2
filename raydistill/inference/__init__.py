"""What a detector finds, and how good it is."""
