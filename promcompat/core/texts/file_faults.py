"""Why a file cannot be read, in words for people."""


def reading_fault(error: Exception) -> str:
    """What is wrong with a file or what it contains, without its name, which the caller knows.

    Python's own texts have the number of an error and the name once more.
    """
    match error:
        case OSError(strerror=str(text)):
            return text
        case UnicodeDecodeError():
            return f"not UTF-8: byte {error.start} is 0x{error.object[error.start]:02x}"
        case _:
            return str(error)
