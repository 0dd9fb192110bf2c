"""What the trainer says when its input is wrong: one sentence, and exit status 2."""


class TrainingError(Exception):
    """The input cannot be trained on; the text says what was wrong and what would be right."""
