@echo off
rem Says what the service does.
rem Exit codes: 0 running, 3 stopped, 4 not installed.
rem An administrator's scripts begin in another folder, so every path begins with the script's own.
setlocal DisableDelayedExpansion
"%~dp0bin\DcmStoreService.exe" -m dcmstore service query --config "%~dp0DcmStore.ini" %*
set "code=%ERRORLEVEL%"
rem The window of a double click closes with the script, so leave time to read.
setlocal EnableDelayedExpansion
set "line=!cmdcmdline!"
if not defined line exit /b %code%
set "rest=!line:*query-service.bat=!"
if "%~1"=="" if defined rest if not "!rest!"=="!line!" pause
exit /b %code%
