/* SPDX-License-Identifier: GPL-3.0-or-later */
/* storvsc's half of the protocol over the fake guest: for the tests of storvsp and SCSI. */
#ifndef VIREO_TESTS_FAKE_STORVSC_H
#define VIREO_TESTS_FAKE_STORVSC_H

#include "core/vsp/storvsp-proto.h"
#include "fake-guest.h"

extern const struct guid fake_class_scsi;

/* Sends a control packet and takes its answer. */
bool fake_vstor(struct fake_channel *ch, struct vstor_packet *v);
/* BEGIN to END; true if all succeeded. *props as the host said. */
bool fake_storvsc_init(struct fake_channel *ch, uint16_t version, struct vstor_properties *props);

struct fake_scsi {
    uint8_t path, target, lun;
    const uint8_t *cdb;
    uint8_t cdb_len;
    uint64_t gpa; /* data */
    uint32_t len;
    bool write;
};
/* Sends a request without waiting. */
bool fake_scsi_send(struct fake_channel *ch, uint64_t id, const struct fake_scsi *c);
/* Sends and waits; the answer's SRB. srb_status 0 if there was none. */
struct vstor_srb fake_scsi_run(struct fake_channel *ch, const struct fake_scsi *c);
/* key << 16 | ASC << 8 | ASCQ of an answer; 0 if there is no sense. */
uint32_t fake_sense(const struct vstor_srb *srb);

#endif
