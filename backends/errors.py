"""The errors that xpnn raises on purpose."""


class XpnnError(Exception):
    """Base of every error whose cause is outside xpnn: the message says what is wrong and how to mend it."""


class BackendUnavailable(XpnnError, ImportError):  # noqa: N818 - the name is part of the public interface
    """A backend cannot be had on this machine; the message gives the reason and the line that installs it."""


class MissingDependency(XpnnError, ImportError):  # noqa: N818
    """A feature needs a package that is not installed; the message gives the line that installs it."""


class DataError(XpnnError, ValueError):
    """Data from outside (files, arrays, labels, downloads) is not what it must be."""


class ConfigError(XpnnError, ValueError):
    """An argument or an option has a value that it cannot have."""


class ModelFileError(XpnnError, ValueError):
    """A saved model or checkpoint cannot be read."""


class RunError(XpnnError, RuntimeError):
    """A training run failed: its loss is no longer a number, or its folder cannot be written."""


class DeviceError(RunError):
    """A GPU cannot do the work: its memory is full, or its software refuses it. The process can go on."""


class DeviceLost(DeviceError):  # noqa: N818
    """A GPU no longer answers this process, which must be started again; what was on the device is gone."""
