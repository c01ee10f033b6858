"""What everything speaks: types, protocols, pure functions, records, values and errors."""
