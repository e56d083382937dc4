# SPDX-License-Identifier: GPL-3.0-or-later
# The worker on KVM, in its sandbox, with a real SPICE client: its picture is the screen, pixel for pixel; a wrong
# password gets none; nothing listens once it is off.
export VIREO_WORKER=/bin/vireo-vm HOME=/tmp VIREO_NO_SYSTEMD=1 XDG_DATA_HOME=/tmp/data
fail() { echo "FAIL $*"; vireoctl remote pc; exit 1; }
pixels() { tail -c $((720 * 400 * 3)) "$1"; }

vireoctl create pc --generation 1 --memory 64M --switch none processor.accel=kvm || exit 1
vireoctl start pc || exit 1
vireoctl info pc 2>/dev/null | grep -i kvm
echo sesame >/tmp/password
vireoctl remote pc spice on --port 5930 --password-file /tmp/password || fail "not switched on"
tries=0
until spicy-screenshot -h 127.0.0.1 -p 5930 -w sesame -o /tmp/spice.ppm >/tmp/log 2>&1 &&
    vireoctl screenshot pc /tmp/own.ppm && [ "$(head -n 2 /tmp/own.ppm | tail -n 1)" = "720 400" ] &&
    [ "$(pixels /tmp/own.ppm | md5sum)" = "$(pixels /tmp/spice.ppm | md5sum)" ] &&
    [ "$(pixels /tmp/own.ppm | tr -d '\0' | wc -c)" -gt 3000 ]; do
    tries=$((tries + 1))
    [ $tries -lt 30 ] || { cat /tmp/log; head -n 2 /tmp/own.ppm /tmp/spice.ppm; fail "other pictures"; }
    sleep 2
done
echo "ok: SPICE's picture is the screen"
rm /tmp/spice.ppm
timeout 30 spicy-screenshot -h 127.0.0.1 -p 5930 -w wrong -o /tmp/spice.ppm >/tmp/log 2>&1
[ ! -s /tmp/spice.ppm ] || fail "a wrong password was accepted"
echo "ok: a wrong password gets nothing"
vireoctl remote pc spice off || fail "not switched off"
nc 127.0.0.1 5930 </dev/null 2>/dev/null && fail "something listens"
echo "ok: nothing listens once it is off"
vireoctl turn-off pc
