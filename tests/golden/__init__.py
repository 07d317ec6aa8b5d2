"""Small runs whose numbers stay the same to the bit while the code is moved and rebuilt."""
