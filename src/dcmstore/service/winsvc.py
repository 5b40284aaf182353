"""numbers and structures of the Service Control Manager of Windows, by the names of Microsoft's headers.

Types are of fixed width, as Windows has them, whatever system this is read on.
"""

import ctypes
import sys

DWORD = ctypes.c_uint32
BOOL = ctypes.c_int32
HANDLE = ctypes.c_void_p
TEXT = ctypes.c_wchar_p
VOID = ctypes.c_void_p

# Access to the manager and to a service
SC_MANAGER_CONNECT = 0x0001
SC_MANAGER_CREATE_SERVICE = 0x0002
SERVICE_QUERY_CONFIG = 0x0001
SERVICE_CHANGE_CONFIG = 0x0002
SERVICE_QUERY_STATUS = 0x0004
SERVICE_START = 0x0010
SERVICE_STOP = 0x0020
SERVICE_PAUSE_CONTINUE = 0x0040  # also for SERVICE_CONTROL_PARAMCHANGE
DELETE = 0x00010000

SERVICE_WIN32_OWN_PROCESS = 0x10
SERVICE_AUTO_START = 2
SERVICE_ERROR_NORMAL = 1

# What SERVICE_STATUS says
SERVICE_STOPPED = 1
SERVICE_START_PENDING = 2
SERVICE_STOP_PENDING = 3
SERVICE_RUNNING = 4
SERVICE_ACCEPT_STOP = 0x001
SERVICE_ACCEPT_SHUTDOWN = 0x004
SERVICE_ACCEPT_PARAMCHANGE = 0x008
SERVICE_ACCEPT_PRESHUTDOWN = 0x100

# What a service is told
SERVICE_CONTROL_STOP = 1
SERVICE_CONTROL_INTERROGATE = 4
SERVICE_CONTROL_SHUTDOWN = 5
SERVICE_CONTROL_PARAMCHANGE = 6  # "its startup parameters have changed, read them again"
SERVICE_CONTROL_PRESHUTDOWN = 15

# What ChangeServiceConfig2W changes
SERVICE_CONFIG_DESCRIPTION = 1
SERVICE_CONFIG_FAILURE_ACTIONS = 2
SERVICE_CONFIG_FAILURE_ACTIONS_FLAG = 4
SERVICE_CONFIG_SERVICE_SID_INFO = 5
SERVICE_CONFIG_PRESHUTDOWN_INFO = 7
SERVICE_SID_TYPE_UNRESTRICTED = 1
SC_ACTION_RESTART = 1
SC_STATUS_PROCESS_INFO = 0

NO_ERROR = 0
ERROR_ACCESS_DENIED = 5
ERROR_CALL_NOT_IMPLEMENTED = 120
ERROR_INSUFFICIENT_BUFFER = 122
ERROR_SERVICE_ALREADY_RUNNING = 1056
ERROR_SERVICE_DOES_NOT_EXIST = 1060
ERROR_SERVICE_NOT_ACTIVE = 1062
ERROR_FAILED_SERVICE_CONTROLLER_CONNECT = 1063
ERROR_SERVICE_SPECIFIC_ERROR = 1066
ERROR_SERVICE_MARKED_FOR_DELETE = 1072

if sys.platform == "win32":
    _function_type = ctypes.WINFUNCTYPE
else:
    _function_type = ctypes.CFUNCTYPE
ServiceMain = _function_type(None, DWORD, ctypes.POINTER(TEXT))
HandlerEx = _function_type(DWORD, DWORD, DWORD, VOID, VOID)  # control, event type, event data, context


class SERVICE_STATUS(ctypes.Structure):
    _fields_ = (
        ("dwServiceType", DWORD),
        ("dwCurrentState", DWORD),
        ("dwControlsAccepted", DWORD),
        ("dwWin32ExitCode", DWORD),
        ("dwServiceSpecificExitCode", DWORD),
        ("dwCheckPoint", DWORD),
        ("dwWaitHint", DWORD),
    )


class SERVICE_STATUS_PROCESS(ctypes.Structure):
    _fields_ = (*SERVICE_STATUS._fields_, ("dwProcessId", DWORD), ("dwServiceFlags", DWORD))


class QUERY_SERVICE_CONFIGW(ctypes.Structure):
    _fields_ = (
        ("dwServiceType", DWORD),
        ("dwStartType", DWORD),
        ("dwErrorControl", DWORD),
        ("lpBinaryPathName", TEXT),
        ("lpLoadOrderGroup", TEXT),
        ("dwTagId", DWORD),
        ("lpDependencies", VOID),
        ("lpServiceStartName", TEXT),
        ("lpDisplayName", TEXT),
    )


class SERVICE_TABLE_ENTRYW(ctypes.Structure):
    _fields_ = (("lpServiceName", TEXT), ("lpServiceProc", ServiceMain))


class SERVICE_DESCRIPTIONW(ctypes.Structure):
    _fields_ = (("lpDescription", TEXT),)


class SC_ACTION(ctypes.Structure):
    _fields_ = (("Type", DWORD), ("Delay", DWORD))


class SERVICE_FAILURE_ACTIONSW(ctypes.Structure):
    _fields_ = (
        ("dwResetPeriod", DWORD),
        ("lpRebootMsg", TEXT),
        ("lpCommand", TEXT),
        ("cActions", DWORD),
        ("lpsaActions", ctypes.POINTER(SC_ACTION)),
    )


class SERVICE_FAILURE_ACTIONS_FLAG(ctypes.Structure):
    _fields_ = (("fFailureActionsOnNonCrashFailures", BOOL),)


class SERVICE_SID_INFO(ctypes.Structure):
    _fields_ = (("dwServiceSidType", DWORD),)


class SERVICE_PRESHUTDOWN_INFO(ctypes.Structure):
    _fields_ = (("dwPreshutdownTimeout", DWORD),)
