"""The four services of the control plane and the ground they stand on (kit, contracts)."""
