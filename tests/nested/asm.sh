# SPDX-License-Identifier: GPL-3.0-or-later
# In L1: runs the images of tests/asm, given as NAME:CPUS:STATUS, on KVM, and judges them as tests/asm/check.sh does.
failed=0
for t; do
    name=${t%%:*} rest=${t#*:}
    cpus=${rest%:*} wanted=${rest#*:}
    start=$(date +%s)
    if timeout 300 sh /check.sh run-asm "/asm/$name" "$cpus" "$wanted" kvm; then verdict=passed; else verdict=FAILED; failed=1; fi
    echo "== $name on $cpus processors: $verdict after $(($(date +%s) - start)) s"
done
exit $failed
