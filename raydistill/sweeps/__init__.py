"""Which trials a sweep has, and one of them."""
