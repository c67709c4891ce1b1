"""The one exception that callers need to know."""


class PlaymateError(ValueError):
    """Something the user can mend. The message is one sentence: what, where, what to do."""
