/*
 * Copyright (c) 2026 The ovs-vhostuser Authors.
 *
 * Licensed under the Apache License, Version 2.0 (the "License");
 * you may not use this file except in compliance with the License.
 * You may obtain a copy of the License at:
 *
 *     http://www.apache.org/licenses/LICENSE-2.0
 *
 * Unless required by applicable law or agreed to in writing, software
 * distributed under the License is distributed on an "AS IS" BASIS,
 * WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
 * See the License for the specific language governing permissions and
 * limitations under the License.
 */

#ifndef VHOST_PCAP_H
#define VHOST_PCAP_H 1

/* Packet captures
 * ===============
 *
 * Files in the classic format of libpcap with Ethernet frames.  Times in
 * microseconds or nanoseconds, in either byte order, are read; nanoseconds in
 * the order of this machine are written.  A file may come from anywhere:
 * nothing in it is believed before it was checked. */

#include <stddef.h>
#include <stdint.h>

struct vhost_pcap_reader;
struct vhost_pcap_writer;

/* Longest packet that is read or written, as libpcap has it. */
#define VHOST_PCAP_MAX_LEN 262144

struct vhost_pcap_packet {
    uint64_t ns;                /* Time since 1970, in ns. */
    uint32_t len;               /* Bytes at 'data'. */
    uint32_t orig_len;          /* Bytes of the packet when it was captured. */
    const uint8_t *data;        /* Valid until the next call. */
};

/* Opens 'path', "-" for the standard input.  Returns 0 with '*readerp', or a
 * positive errno with a newly allocated phrase in '*error'. */
int vhost_pcap_open(const char *path, struct vhost_pcap_reader **readerp,
                    char **error);

/* Reads the next packet.  Returns 0, ENODATA at the end of the file, or
 * another positive errno with a newly allocated phrase in '*error'. */
int vhost_pcap_read(struct vhost_pcap_reader *reader,
                    struct vhost_pcap_packet *packet, char **error);

void vhost_pcap_close(struct vhost_pcap_reader *reader);

/* Creates 'path', "-" for the standard output.  Returns and '*error' as
 * above. */
int vhost_pcap_create(const char *path, struct vhost_pcap_writer **writerp,
                      char **error);

/* Appends the 'len' bytes at 'data' as a packet.  An error is kept for
 * vhost_pcap_finish(). */
void vhost_pcap_write(struct vhost_pcap_writer *writer, uint64_t ns,
                      const void *data, uint32_t len);

/* Writes what has been buffered. */
void vhost_pcap_flush(struct vhost_pcap_writer *writer);

/* Closes the file.  Returns and '*error' as above. */
int vhost_pcap_finish(struct vhost_pcap_writer *writer, char **error);

#endif /* vhost-pcap.h */
