"""Record files -> scores, intervals, tables, figures and one page. Imports no torch: a laptop can
report on a cluster's runs."""
