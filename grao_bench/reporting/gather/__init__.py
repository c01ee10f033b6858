"""Records -> cells, rows of scores, what is compared with what: no table, no figure."""
