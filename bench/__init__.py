"""Load generator for any AdminService: plays the engine and measures what the control plane makes of it.

It speaks the public API only and shares no code with the services, so that its numbers for different servers compare.
"""
