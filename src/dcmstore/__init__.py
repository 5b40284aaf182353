"""dcmstore: a DICOM Storage SCP that files what it receives, and says success only when it is safe on disk."""

__version__ = "0.1.0"

# A UUID-derived UID (PS3.5 B.2); it names this implementation in associations and files.
IMPLEMENTATION_CLASS_UID = "2.25.165993934005730796797949858319515556839"
IMPLEMENTATION_VERSION_NAME = "DCMSTORE_" + __version__.replace(".", "")  # at most 16 characters (PS3.7 D.3.3.2)
