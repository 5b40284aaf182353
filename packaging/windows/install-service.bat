@echo off
rem Makes the root folders if they are missing, then installs the service. Needs an administrator.
rem Exit codes: 0 installed, 1 not installed, 2 DcmStore.ini or an option is wrong.
rem An administrator's scripts begin in another folder, so every path begins with the script's own.
setlocal DisableDelayedExpansion
"%~dp0bin\DcmStoreService.exe" -m dcmstore init "%~dp0."
set "code=%ERRORLEVEL%"
if not "%code%"=="0" goto end
"%~dp0bin\DcmStoreService.exe" -m dcmstore service install --config "%~dp0DcmStore.ini" %*
set "code=%ERRORLEVEL%"
:end
rem The window of a double click closes with the script, so leave time to read.
setlocal EnableDelayedExpansion
set "line=!cmdcmdline!"
if not defined line exit /b %code%
set "rest=!line:*install-service.bat=!"
if "%~1"=="" if defined rest if not "!rest!"=="!line!" pause
exit /b %code%
