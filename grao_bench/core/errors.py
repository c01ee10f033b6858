"""The one exception that a user's mistake raises. The command line prints it as a single line, without a traceback."""


class UserError(Exception):
    """Bad input. The message says what is wrong, where (file:line or config key), and what to do."""
