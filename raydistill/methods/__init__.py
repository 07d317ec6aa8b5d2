"""What a student is made to imitate of its teacher, and how."""
