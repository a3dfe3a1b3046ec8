"""The pure heart of the copier: values in, values out, no I/O and no clock."""
