"""The network behind an ISP's FreeRADIUS: its tables, and the access servers that it serves."""
