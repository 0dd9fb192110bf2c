"""What is learnt: one target, several, or none."""
