"""The exceptions that end a command: one that the user can mend, and one that the user asked for."""


class UserError(Exception):
    """A path, column, shape, config value or clip is wrong: one line saying what, where, its value, and what to do.

    The command line prints it without a traceback and exits with code 2.
    """


class Interrupted(Exception):
    """A signal stopped a command, after what it had was saved; the exit code is 128 + `number`."""

    def __init__(self, number: int, message: str):
        super().__init__(message)
        self.number = number
