/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * run-asm [--accel soft|kvm|auto] [--cpus N] [--vendor intel|amd] IMAGE: a multiboot image on the
 * bare partition: memory, processors, COM1's output and the debug exit port, nothing else. Exit
 * status as vireoctl run has it: (code << 1) | 1 for the debug exit, 11 for a triple fault, 2 when
 * it cannot start. It lets core/hv be tested without a machine around it.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/hv/partition.h"
#include "core/machine/boot.h"

static uint64_t uart_read(void *ctx, uint64_t offset, unsigned size)
{
    return offset == 5 ? 0x60 : 0;
}

static void uart_write(void *ctx, uint64_t offset, unsigned size, uint64_t value)
{
    if (offset == 0)
        putchar((int)(value & 0xff)), fflush(stdout);
}

static void leave(int status)
{
    fflush(stdout);
    _exit(status);
}

static uint64_t exit_read(void *ctx, uint64_t offset, unsigned size)
{
    return 0;
}

static void exit_write(void *ctx, uint64_t offset, unsigned size, uint64_t value)
{
    leave((int)((value << 1 | 1) & 0xff));
}

static void ended(void *ctx, const struct hv_end_report *r)
{
    static const char *const names[] = {"triple fault", "reset", "crash", "failure"};
    printf("the guest ended by %s on VP %u: %s\n", names[r->kind], r->vp, r->text);
    leave(r->kind == HV_END_RESET ? 10 : r->kind == HV_END_FAILED ? 2 : 11);
}

static struct hv_partition *partition;

/* What is posted to connection 1 comes back, as a message, on the sender's SINT 2; a signal on
 * connection 2 sets the event flag of the same number at its SINT 3. */
static enum hv_status post(void *ctx, unsigned vp, uint32_t id, uint32_t type, const void *payload,
                           uint32_t len)
{
    if (id != 1)
        return HV_STATUS_INVALID_CONNECTION_ID;
    return hv_synic_post(partition, vp, 2, type, payload, (uint8_t)len)
               ? HV_STATUS_SUCCESS
               : HV_STATUS_INSUFFICIENT_BUFFERS;
}

static enum hv_status signal_event(void *ctx, unsigned vp, uint32_t id, uint16_t flag)
{
    if (id != 2)
        return HV_STATUS_INVALID_CONNECTION_ID;
    hv_synic_signal(partition, vp, 3, flag);
    return HV_STATUS_SUCCESS;
}

static void ioapic_eoi(void *ctx, uint8_t vector)
{
}

static int pic_ack(void *ctx)
{
    return -1;
}

static const struct hv_partition_ops ops = {.post_message = post,
                                            .signal_event = signal_event,
                                            .ended = ended,
                                            .ioapic_eoi = ioapic_eoi,
                                            .pic_ack = pic_ack};

static bool load(struct hv_partition *p, const char *path, err *e)
{
    struct memmap map;
    struct boot_params b = {.protocol = BOOT_MULTIBOOT, .cmdline = "", .map = &map};
    static struct hv_vp_state s;
    struct hv_memory *mem = hv_partition_memory(p);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_errno(e, errno, "%s", path);
    return memmap_init(&map, 64 << 20, e) && memmap_add_ram(&map, mem, e) &&
           boot_file_open(&b.kernel, path, fd, e) && boot_load(&b, mem, &s, e) &&
           hv_partition_set_vp(p, 0, &s, e);
}

static bool run(const struct hv_partition_params *params, const char *path, err *e)
{
    static const struct hv_io_ops uart = {"COM1", uart_read, uart_write},
                                  debug_exit = {"exit", exit_read, exit_write};
    struct hv_partition *p = hv_partition_new(params, e);
    if (!p || !hv_io_claim(hv_partition_io(p), HV_IO_PORT, 0x3f8, 8, &uart, NULL, e) ||
        !hv_io_claim(hv_partition_io(p), HV_IO_PORT, 0xf4, 4, &debug_exit, NULL, e) ||
        !load(p, path, e))
        return false;
    partition = p;
    hv_partition_resume(p);
    for (;;)
        pause(); /* a VP's thread ends the process */
}

int main(int argc, char **argv)
{
    struct hv_partition_params params = {.accel = HV_ACCEL_SOFT, .vp_count = 1, .ops = &ops};
    const char *path = NULL;
    err e = ERR_INIT;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--accel") == 0 && argv[i + 1]) {
            i++;
            params.accel = strcmp(argv[i], "kvm") == 0    ? HV_ACCEL_KVM
                           : strcmp(argv[i], "auto") == 0 ? HV_ACCEL_AUTO
                                                          : HV_ACCEL_SOFT;
        } else if (strcmp(argv[i], "--vendor") == 0 && argv[i + 1]) {
            params.vendor = strcmp(argv[++i], "amd") == 0 ? HV_VENDOR_AMD : HV_VENDOR_INTEL;
        } else if (strcmp(argv[i], "--cpus") == 0 && argv[i + 1]) {
            params.vp_count = (unsigned)strtoul(argv[++i], NULL, 0);
        } else {
            path = argv[i];
        }
    }
    if (!path) {
        fprintf(stderr, "usage: %s [--accel soft|kvm|auto] [--vendor intel|amd] [--cpus N] IMAGE\n",
                argv[0]);
        return 2;
    }
    run(&params, path, &e);
    fprintf(stderr, "run-asm: %s\n", e.text);
    return 2;
}
