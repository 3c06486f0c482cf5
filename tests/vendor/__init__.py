"""A stub embedding vendor: a real HTTP server that does on request what vendors do by accident."""

from vendor.script import Call, Fault
from vendor.stub import StubVendor, VendorProcess

__all__ = ["Call", "Fault", "StubVendor", "VendorProcess"]
