"""Is a new model better than the live one? Conditions, comparisons, and what they cannot say."""
