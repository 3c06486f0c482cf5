"""What goes wrong before a test begins.

ControlPlaneError       the API server does not start, or not in time, or refuses what a test is built on
└── ProgramsMissingError     no kube-apiserver, etcd or kubectl here, and none can be built
"""


class ControlPlaneError(Exception):
    """The API server for the tests is not as the tests need it."""


class ProgramsMissingError(ControlPlaneError):
    """A program is neither here nor can it be built; the message says why, and what to do."""
