"""How a search says that its numbers stopped being finite."""


class Diverged(ArithmeticError):  # noqa: N818  # a status, not a mistake of the program
    """A loss, gradient or weight is infinite or NaN; the words say where and what may help."""
