"""Load generator for any AdminService: it calls as the engine does and measures the control plane.

It uses the public API only, so its numbers for different servers are comparable.
"""
