"""What a teacher says of an image, asked once and kept."""
