/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "fake-storvsc.h"

#include <string.h>

const struct guid fake_class_scsi = GUID(0xba6163d9, 0x04a1, 0x4d29, 0xb605, 0x72e2ffb1dc7f);
enum { CONTROL_ID = -3 };

bool fake_vstor(struct fake_channel *ch, struct vstor_packet *v)
{
    struct fake_packet p;
    if (!fake_send(ch, (uint64_t)CONTROL_ID, true, v, sizeof *v) || !fake_recv(ch, &p) ||
        p.type != VMBUS_PACKET_COMPLETION || p.id != (uint64_t)CONTROL_ID || p.len != sizeof *v)
        return false;
    memcpy(v, p.payload, sizeof *v);
    return v->op == VSTOR_COMPLETE_IO;
}

static bool step(struct fake_channel *ch, struct vstor_packet *v)
{
    return fake_vstor(ch, v) && v->status == 0;
}

bool fake_storvsc_init(struct fake_channel *ch, uint16_t version, struct vstor_properties *props)
{
    struct vstor_packet begin = {.op = VSTOR_BEGIN_INITIALIZATION};
    struct vstor_packet query = {.op = VSTOR_QUERY_VERSION, .version = version};
    struct vstor_packet properties = {.op = VSTOR_QUERY_PROPERTIES};
    struct vstor_packet end = {.op = VSTOR_END_INITIALIZATION};
    if (!step(ch, &begin) || !step(ch, &query) || !step(ch, &properties) || !step(ch, &end))
        return false;
    if (props)
        *props = properties.properties;
    return true;
}

bool fake_scsi_send(struct fake_channel *ch, uint64_t id, const struct fake_scsi *c)
{
    struct vstor_packet v = {.op = VSTOR_EXECUTE_SRB,
                             .srb = {.length = sizeof v.srb,
                                     .path = c->path,
                                     .target = c->target,
                                     .lun = c->lun,
                                     .cdb_length = c->cdb_len,
                                     .sense_length = 20,
                                     .data_in = !c->len ? SRB_DIRECTION_NONE : !c->write,
                                     .transfer_length = c->len}};
    memcpy(v.srb.cdb_or_sense, c->cdb, c->cdb_len < 16 ? c->cdb_len : 16);
    struct fake_range r = {.gpa = c->gpa, .len = c->len};
    return c->len ? fake_send_gpa(ch, id, &v, sizeof v, &r, 1)
                  : fake_send(ch, id, true, &v, sizeof v);
}

struct vstor_srb fake_scsi_run(struct fake_channel *ch, const struct fake_scsi *c)
{
    static uint64_t next = 1;
    struct vstor_packet v = {0};
    struct fake_packet p;
    uint64_t id = next++;
    if (fake_scsi_send(ch, id, c) && fake_recv(ch, &p) && p.type == VMBUS_PACKET_COMPLETION &&
        p.id == id && p.len == sizeof v)
        memcpy(&v, p.payload, sizeof v);
    return v.srb;
}

uint32_t fake_sense(const struct vstor_srb *srb)
{
    const uint8_t *s = srb->cdb_or_sense;
    if (!(srb->srb_status & SRB_AUTOSENSE_VALID))
        return 0;
    return (uint32_t)s[2] << 16 | (uint32_t)s[12] << 8 | s[13];
}
