"""What usually goes wrong, looked for: each module has a theme and yields findings; examination.py asks them all."""
