# SPDX-License-Identifier: GPL-3.0-or-later
# In L1: boots /vmlinuz with /initrd on KVM, checks what its init says, prints the VM exits up to init and
# ends with the run's status. Arguments: COMMAND-LINE-WORDS, then more options of vireoctl run.
words=$1
shift
vireoctl run --accel kvm --no-reboot --kernel /vmlinuz --initrd /initrd --serial /tmp/serial \
    --append "console=ttyS0 quiet panic=-1 do=wait2,$words" "$@" &
pid=$!
n=0
until grep -q VIREO-INIT /tmp/serial 2>/dev/null; do
    kill -0 $pid 2>/dev/null || break
    n=$((n + 1))
    [ $n -lt 1200 ] || break
    sleep 0.1
done
exits=$(cat /sys/kernel/debug/kvm/exits)
for f in exits io_exits mmio_exits halt_exits irq_exits irq_window_exits signal_exits request_irq_exits hypercalls pf_taken insn_emulation irq_injections nmi_injections; do
    echo "$f $(cat /sys/kernel/debug/kvm/$f 2>/dev/null)"
done >/tmp/counts
wait $pid
status=$?
cat /tmp/serial
tr '\n' ' ' </tmp/counts
echo
echo "EXITS-TO-INIT $exits"
grep -q VIREO-INIT /tmp/serial || { echo "no init"; exit 1; }
if grep VIREO-FAILED /tmp/serial; then exit 1; fi
exit $status
