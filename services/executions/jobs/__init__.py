"""Periodic jobs of the executions service."""
