# SPDX-License-Identifier: GPL-3.0-or-later
# In L1: runs the images of tests/asm, given as NAME:CPUS, on KVM. An image passes if it prints PASSED and
# leaves with status 1 (debug exit with 0).
failed=0
for t; do
    name=${t%:*} cpus=${t#*:}
    out=$(timeout 300 run-asm --accel kvm --cpus "$cpus" "/asm/$name")
    status=$?
    echo "== $name on $cpus processors: status $status"
    echo "$out"
    if [ $status != 1 ] || ! echo "$out" | grep -q '^PASSED'; then
        echo "FAILED $name:$cpus"
        failed=1
    fi
done
exit $failed
