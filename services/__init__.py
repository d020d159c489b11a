"""The four services of the control plane, and the packages that they share (kit, contracts)."""
