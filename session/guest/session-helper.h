/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * vireo-agent-session: runs in a user's session of a Linux guest and serves what needs that user's
 * rights: sound by PulseAudio (or PipeWire's server of that protocol). Gets its streams from
 * vireo-agent. One thread, libpulse's main loop.
 */
#ifndef VIREO_GUEST_SESSION_HELPER_H
#define VIREO_GUEST_SESSION_HELPER_H

#include <pulse/pulseaudio.h>
#include <stdbool.h>
#include <stdint.h>

extern pa_mainloop_api *helper_api;

/* session-helper.c: bits 1 << enum agent_service that can be served now; told to vireo-agent. */
void helper_offer(uint32_t services);
void helper_after(unsigned ms, void (*fn)(void *ctx), void *ctx);

/* session-audio.c */
void audio_begin(void);
void audio_play_stream(int fd); /* AGENT_PLAYBACK; taken */
void audio_record_stream(int fd);
void audio_stop(bool playback, bool record);

#endif
