"""A router's root folder, in which the package's own scripts run under BusyBox: see `root.py`."""
