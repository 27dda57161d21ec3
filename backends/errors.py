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


class RunFolderInUse(ConfigError):  # noqa: N818
    """Another process is at work in the run folder."""


class ModelFileError(XpnnError, ValueError):
    """A saved model or checkpoint cannot be read."""


class RunError(XpnnError, RuntimeError):
    """A run failed; the sub-classes say of what."""


class StorageError(RunError):
    """A file cannot be written: the disk is full, or the folder forbids it. What stood there before is untouched."""


class DivergenceError(RunError):
    """The numbers of a training are no longer finite; the message names epoch, step and tensor."""


class DeviceError(RunError):
    """A GPU cannot do the work: its memory is full, or its software refuses it. The process can go on."""


class DeviceLost(DeviceError):  # noqa: N818
    """A GPU no longer answers this process, which must be started again; what was on the device is gone."""
