"""The tables: each a question, its columns and its notes."""
