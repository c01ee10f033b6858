"""Language models as judges: which of two texts is better, asked of an endpoint or of a local model."""
