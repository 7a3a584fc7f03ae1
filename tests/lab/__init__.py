"""The test lab: a router, guests and "the internet" in network namespaces, with real peers around the real daemon.

It is used by the system tests (`tests/system`), by `make run` and by `make bench`. Nothing in it is part of the
product.
"""
