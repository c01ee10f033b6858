"""Committed numbers made again from the records beside them, by pandas, numpy and scipy from the
files alone: nothing of grao_bench is imported here, so that a fault of its reports can't hide."""
