@echo off
rem Stops the service and takes it out of Windows. What was received, the log and this folder stay.
rem Needs an administrator. Exit codes: 0 deleted, 1 not deleted, 2 an option is wrong.
rem An administrator's scripts begin in another folder, so every path begins with the script's own.
setlocal DisableDelayedExpansion
"%~dp0bin\DcmStoreService.exe" -m dcmstore service delete --config "%~dp0DcmStore.ini" %*
set "code=%ERRORLEVEL%"
rem The window of a double click closes with the script, so leave time to read.
setlocal EnableDelayedExpansion
set "line=!cmdcmdline!"
if not defined line exit /b %code%
set "rest=!line:*delete-service.bat=!"
if "%~1"=="" if defined rest if not "!rest!"=="!line!" pause
exit /b %code%
