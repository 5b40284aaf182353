"""what happened -> audit messages of DICOM (PS3.15 A.5) -> a file or a syslog server, behind everybody's back."""
