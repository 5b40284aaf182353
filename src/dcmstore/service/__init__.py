"""Who starts a receiver and stops it where nobody watches: systemd, or the Service Control Manager of Windows."""

SERVICE_NAME = "DcmStoreService"  # on Windows, where the original has it too
