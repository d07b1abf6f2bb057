"""What can be wrong with a log, apart from the system's own `OSError`. The texts are for people, one line each."""


class LogError(Exception):
    """Base of all."""


class DirectoryInUse(LogError):
    """Another process has the directory locked."""


class UnknownFormat(LogError):
    """A file was written by a program that knows more than this one."""


class Damage(LogError):
    """A file is not as it was written. `offset` says where, in bytes."""

    def __init__(self, name: str, offset: int, why: str) -> None:
        super().__init__(f"{name} is damaged at offset {offset}: {why}")
        self.name = name
        self.offset = offset
