@echo off
rem Every command of dcmstore: dcmstore check, dcmstore where FILE, dcmstore import FOLDER; dcmstore -h lists them.
setlocal DisableDelayedExpansion
"%~dp0bin\DcmStoreService.exe" -m dcmstore %*
set "code=%ERRORLEVEL%"
rem The window of a double click closes with the script, so leave time to read.
setlocal EnableDelayedExpansion
set "line=!cmdcmdline!"
if not defined line exit /b %code%
set "rest=!line:*dcmstore.bat=!"
if "%~1"=="" if defined rest if not "!rest!"=="!line!" pause
exit /b %code%
