#!/bin/bash
# Runs on a machine of its own that systemd has booted (tools/test-systemd): the life of the service, from install to
# delete. What it prints is the transcript; it ends with the first thing that is not as it should be.
set -eu
export PATH=/opt/dcmstore/bin:$PATH SYSTEMD_COLORS=0 SYSTEMD_PAGER=
UNIT=DcmStoreService

# expect CODE COMMAND…: show the command and what it prints, and insist on its exit code
expect() {
    local wanted=$1 code=0
    shift
    printf '$ %s\n' "$*"
    "$@" 2>&1 || code=$?
    if [ "$code" != "$wanted" ]; then
        echo "FAILED: exit code $code, expected $wanted"
        exit 1
    fi
    [ "$code" = 0 ] || echo "[exit code $code]"
    echo
}

# until_true COMMAND…: wait for a minute and a half at most
until_true() {
    for _ in $(seq 900); do
        if "$@" >/dev/null 2>&1; then return; fi
        sleep 0.1
    done
    echo "FAILED: never came true: $*"
    exit 1
}

property() { systemctl show --property "$1" --value $UNIT; }
restarted() { [ "$(property NRestarts)" = "$1" ] && [ "$(property ActiveState)" = active ]; }
set_key() { sed -i "s|^$1=.*|$1= $2|" "$INI"; }

# another FILE PATIENT: an object of its own
another() {
    cp /test/CT_small.dcm "$1"
    dcmodify --no-backup --gen-inst-uid --modify "PatientID=$2" "$1"
}

# What `delete` has to leave as it was
footprint() {
    cat /etc/passwd /etc/group
    find /etc/systemd /var/lib/systemd -name "*$UNIT*"
    stat --format '%n %U %G %a' "${INI%/*}" "$INI" "${INI%/*}/received"
}

# life FOLDER: a folder as `init` makes it, and all that can happen to its service
life() {
    local folder=$1
    INI=$folder/DcmStore.ini
    expect 0 dcmstore init "$folder"
    footprint >/tmp/before

    echo "=== install, start, receive"
    expect 4 dcmstore service query
    expect 1 dcmstore service start
    expect 0 dcmstore service install --config "$INI"
    expect 1 dcmstore service install --config "$INI"
    expect 3 dcmstore service query
    expect 0 dcmstore service start
    expect 0 dcmstore service query
    expect 0 systemctl status --no-pager $UNIT
    expect 0 dcmstore echo 127.0.0.1 11112
    expect 0 storescu 127.0.0.1 11112 /test/CT_small.dcm
    expect 0 find "$folder/received" -name '*.dcm' -printf '%u %g %m %P\n'
    expect 0 systemd-analyze verify /etc/systemd/system/$UNIT.service
    systemd-analyze security --no-pager $UNIT | tail -1
    echo

    echo "=== reload"
    set_key max-associations 50
    expect 0 dcmstore reload --config "$INI"
    set_key max-associations lots
    expect 2 dcmstore reload --config "$INI"
    set_key max-associations 100
    expect 0 dcmstore echo 127.0.0.1 11112

    echo "=== root adds a user, and the service reads the file"
    set_key users DcmStore.users
    echo secret | dcmstore user add ct1 --config "$INI"
    expect 0 stat --format '%U %G %a' "${INI%/*}/DcmStore.users"
    expect 0 dcmstore reload --config "$INI"

    echo "=== killed: systemd starts it again"
    expect 0 kill -KILL "$(property MainPID)"
    until_true restarted 1
    expect 0 dcmstore service query

    echo "=== stuck: the watchdog ends it, and systemd starts it again"
    expect 0 kill -STOP "$(property MainPID)"
    until_true restarted 2
    journalctl --unit $UNIT --output cat | grep -i watchdog
    expect 0 dcmstore echo 127.0.0.1 11112

    echo "=== a stop that takes longer than the watchdog, and than the unit says, after stop-timeout was raised"
    set_key stop-timeout 90
    expect 0 dcmstore reload --config "$INI"
    python3 /test/half_an_object.py &
    until_true grep -q calling=HALF "$folder/DcmStore.log"
    expect 0 dcmstore service stop
    wait
    journalctl --unit $UNIT --output cat | tail -5
    [ "$(property Result)" = success ]
    echo
    set_key stop-timeout 20

    echo "=== a start that fails says why"
    python3 -m http.server 11112 >/dev/null 2>&1 &
    until_true bash -c 'exec 3<>/dev/tcp/127.0.0.1/11112'
    expect 1 dcmstore service start
    expect 3 dcmstore service query
    kill %1
    until_true systemctl is-active $UNIT
    expect 0 dcmstore service stop

    echo "=== a port below 1024 needs the unit renewed"
    set_key port 104
    expect 1 dcmstore service start
    expect 0 dcmstore service install --config "$INI"
    expect 0 dcmstore service stop
    expect 0 dcmstore service start
    expect 0 dcmstore echo 127.0.0.1 104

    echo "=== the journal knows what is a warning"
    storescu 127.0.0.1 104 /test/inside.sh >/dev/null 2>&1 || true
    python3 -c 'import socket; s = socket.create_connection(("127.0.0.1", 104)); s.send(b"GET / HTTP/1.1\r\n"); s.recv(9)'
    expect 0 journalctl --unit $UNIT --output cat --priority warning --lines 1 --no-pager

    echo "=== an index, a hook that copies, and what root imports beside the service"
    mkdir -m 0770 /srv/copies
    chgrp dcmstore /srv/copies
    set_key logfile 0
    set_key index 1
    echo 'on-stored= copy to /srv/copies' >>"$INI"
    expect 0 dcmstore service install --config "$INI"
    expect 0 dcmstore service stop
    expect 0 dcmstore service start
    another /tmp/two.dcm PAT2
    expect 0 storescu 127.0.0.1 104 /tmp/two.dcm
    until_true sh -c 'find /srv/copies -name "*.dcm" | grep -q .'
    expect 0 find /srv/copies -name '*.dcm' -printf '%u %g %m %P\n'
    until_true dcmstore list --patient PAT2 --config "$INI"
    expect 0 stat --format '%U %G %a %n' "$folder"/DcmStore.index "$folder"/DcmStore.queue
    another /tmp/three.dcm PAT3
    another /tmp/four.dcm PAT3
    expect 0 dcmstore import /tmp/three.dcm --config "$INI"
    expect 0 storescu 127.0.0.1 104 /tmp/four.dcm
    expect 0 find "$folder/received/images/PAT3" -printf '%u %g %m %P\n'
    until_true sh -c '[ "$(dcmstore list instances --patient PAT3 --csv --config "$0" | wc -l)" = 3 ]' "$INI"
    expect 0 dcmstore verify --config "$INI"

    echo "=== delete leaves the data"
    expect 0 dcmstore service delete
    expect 4 dcmstore service query
    find "$folder/received" -name '*.dcm' | grep -q .
    footprint >/tmp/after
    expect 0 diff /tmp/before /tmp/after
}

life '/srv/dicom 100% $HOME'

echo "=== everything in a home that is closed to others: the program, the ini and the data"
mkdir -m 0700 /home/anna
cp -a /opt/dcmstore /home/anna/venv
sed -i 's|/opt/dcmstore|/home/anna/venv|' /home/anna/venv/pyvenv.cfg
INI=/home/anna/dicom/DcmStore.ini
expect 0 dcmstore init /home/anna/dicom
expect 0 /home/anna/venv/bin/python -m dcmstore service install --config $INI
expect 0 /home/anna/venv/bin/python -m dcmstore service start
expect 0 dcmstore echo 127.0.0.1 11112
expect 0 storescu 127.0.0.1 11112 /test/CT_small.dcm
expect 0 find /home/anna/dicom/received -name '*.dcm' -printf '%u %g %m %P\n'
expect 0 dcmstore service delete

echo "ALL GOOD"
