"""The one exception that means "the user can mend this"."""


class UserError(Exception):
    """A path, column, shape, config value or clip is wrong: one line saying what, where, its value, and what to do.

    The command line prints it without a traceback and exits with code 2.
    """
