"""The error tree is a contract: its shape and its kinds."""

from __future__ import annotations

from deltavcs import errors


def test_tree() -> None:
    tree = {
        cls.__name__: tuple(b.__name__ for b in cls.__bases__)
        for cls in vars(errors).values()
        if isinstance(cls, type) and issubclass(cls, errors.DeltaVCSError)
    }
    assert tree == {
        "DeltaVCSError": ("Exception",),
        "NotFoundError": ("DeltaVCSError", "KeyError"),
        "AlreadyExistsError": ("DeltaVCSError",),
        "InvalidInputError": ("DeltaVCSError", "ValueError"),
        "ConflictError": ("DeltaVCSError",),
        "IntegrityError": ("DeltaVCSError",),
        "FormatError": ("DeltaVCSError",),
        "StorageError": ("DeltaVCSError",),
        "MissingDependencyError": ("DeltaVCSError", "ImportError"),
        "InternalError": ("DeltaVCSError",),
    }


def test_kinds_are_unique_words_with_dashes() -> None:
    values = [str(kind) for kind in errors.ErrorKind]
    assert len(values) == len(set(values))
    assert all(v == v.lower() and v.replace("-", "").isalpha() for v in values)


def test_message_is_not_quoted() -> None:
    # KeyError prints the repr of its argument.
    assert str(errors.NotFoundError("no such thing", kind=errors.ErrorKind.UNKNOWN_REF)) == "no such thing"


def test_a_missing_base_is_never_merely_absent() -> None:
    assert not issubclass(errors.IntegrityError, errors.NotFoundError)
