"""The figures: each a question, drawn from the numbers that `gather` has."""
