/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "core/storage/format.h"

#include "core/base/bytes.h"
#include "core/storage/vhd-format.h"
#include "core/storage/vhdx-format.h"

static bool power_between(uint32_t v, uint32_t least, uint32_t most)
{
    return v >= least && v <= most && !(v & (v - 1));
}

static bool check_vhdx(struct format_params *p, err *e)
{
    if (!p->block_size) /* Windows' own defaults: fewer table pages, or less waste in a child */
        p->block_size = p->type == DISK_DIFFERENCING ? 2 * VHDX_MB : 32 * VHDX_MB;
    if (!p->logical_sector)
        p->logical_sector = 512;
    if (!p->physical_sector)
        p->physical_sector = 4096;
    if (!power_between(p->block_size, VHDX_MIN_BLOCK, VHDX_MAX_BLOCK))
        return err_set(e, ERR_INVALID, "The block size of a VHDX is 1, 2, 4 ... or 256 MiB");
    if ((p->logical_sector != 512 && p->logical_sector != 4096) ||
        (p->physical_sector != 512 && p->physical_sector != 4096))
        return err_set(e, ERR_INVALID, "Sectors have 512 or 4096 bytes");
    if (p->size > VHDX_MAX_SIZE)
        return err_set(e, ERR_INVALID, "A VHDX holds 64 TiB at most");
    return true;
}

static bool check_vhd(struct format_params *p, err *e)
{
    if (!p->block_size)
        p->block_size = 2u << 20;
    if (p->logical_sector > 512 || p->physical_sector > 512)
        return err_set(e, ERR_INVALID, "The sectors of a VHD have 512 bytes");
    p->logical_sector = p->physical_sector = 512;
    if (!power_between(p->block_size, VHD_MIN_BLOCK, VHD_MAX_BLOCK))
        return err_set(e, ERR_INVALID, "The block size of a VHD is 4 KiB, 8 KiB ... or 256 MiB");
    if (p->size > VHD_MAX_SIZE)
        return err_set(e, ERR_INVALID, "A VHD holds 2040 GiB at most");
    return true;
}

bool format_check(struct format_params *p, err *e)
{
    if (guid_is_zero(&p->disk_id))
        guid_random(&p->disk_id);
    if (p->format == DISK_FORMAT_RAW) {
        if (p->type != DISK_FIXED)
            return err_set(e, ERR_INVALID, "A raw disk is neither dynamic nor differencing");
        p->logical_sector = p->physical_sector = 512;
        p->block_size = 0;
    } else if (!(p->format == DISK_FORMAT_VHD ? check_vhd(p, e) : check_vhdx(p, e))) {
        return false;
    }
    if (!p->size || p->size % p->logical_sector)
        return err_set(e, ERR_INVALID, "A disk's size is a multiple of %u bytes",
                       p->logical_sector);
    return true;
}

bool format_write(struct sfile *f, const struct format_params *p, err *e)
{
    if (p->format == DISK_FORMAT_VHDX)
        return vhdx_format(f, p, e);
    if (p->format == DISK_FORMAT_VHD)
        return vhd_format(f, p, e);
    int rc = sfile_set_size(f, p->size);
    return rc == 0 || err_errno(e, rc, "Could not create %s", f->name);
}
