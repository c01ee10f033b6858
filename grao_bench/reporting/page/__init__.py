"""The page: tables, figures, findings and answers as one file of HTML."""
