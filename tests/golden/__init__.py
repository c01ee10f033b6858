"""Golden records: `<objective>.jsonl` is the steps.jsonl of `regenerate.golden_cell`. A change of one is explained in its commit."""
