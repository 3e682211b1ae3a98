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

#include <config.h>

#include "vhost-pcap.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "byte-order.h"
#include "util.h"

#define MAGIC_US 0xa1b2c3d4
#define MAGIC_NS 0xa1b23c4d
#define MAGIC_PCAPNG 0x0a0d0d0a
#define LINKTYPE_ETHERNET 1

/* The upper bits of 'linktype' tell of an FCS at the end of each frame. */
#define LINKTYPE_MASK 0xffff

struct file_header {
    uint32_t magic;
    uint16_t major;
    uint16_t minor;
    int32_t zone;
    uint32_t accuracy;
    uint32_t snaplen;
    uint32_t linktype;
};
BUILD_ASSERT_DECL(sizeof(struct file_header) == 24);

struct packet_header {
    uint32_t sec;
    uint32_t fraction;          /* In us or ns. */
    uint32_t len;
    uint32_t orig_len;
};
BUILD_ASSERT_DECL(sizeof(struct packet_header) == 16);

struct vhost_pcap_reader {
    FILE *file;
    char *path;
    bool swapped;               /* The other byte order. */
    uint32_t fractions;         /* In a second. */
    uint64_t n_packets;         /* So far. */
    uint8_t data[VHOST_PCAP_MAX_LEN];
};

struct vhost_pcap_writer {
    FILE *file;
    char *path;
    int error;
};

static uint32_t
get_u32(const struct vhost_pcap_reader *reader, uint32_t x)
{
    return reader->swapped ? uint32_byteswap(x) : x;
}

/* Reads exactly 'size' bytes.  Returns 0, ENODATA at the end of the file, EIO,
 * or EPROTO if the file ends in between. */
static int
read_exactly(struct vhost_pcap_reader *reader, void *data, size_t size)
{
    size_t n = fread(data, 1, size, reader->file);

    return (n == size ? 0
            : ferror(reader->file) ? EIO
            : n ? EPROTO : ENODATA);
}

/* Checks the header of the file.  Returns 0, or a positive errno with a phrase
 * in '*problem'. */
static int
check_file_header(struct vhost_pcap_reader *reader, char **problem)
{
    struct file_header header;
    uint32_t magic;
    int error = read_exactly(reader, &header, sizeof header);

    if (error) {
        *problem = xstrdup(error == EIO ? "cannot be read"
                           : "is too short for a pcap file");
        return error == EIO ? EIO : EPROTO;
    }
    magic = header.magic;
    reader->swapped = magic != MAGIC_US && magic != MAGIC_NS;
    magic = get_u32(reader, magic);
    if (magic != MAGIC_US && magic != MAGIC_NS) {
        *problem = xstrdup(header.magic == MAGIC_PCAPNG
                           ? "is a pcapng file (convert it with editcap -F "
                             "pcap)"
                           : "is no pcap file");
        return EPROTO;
    }
    reader->fractions = magic == MAGIC_NS ? 1000000000 : 1000000;
    if ((get_u32(reader, header.linktype) & LINKTYPE_MASK)
        != LINKTYPE_ETHERNET) {
        *problem = xasprintf("has link type %"PRIu32" (expected Ethernet, 1)",
                             get_u32(reader, header.linktype)
                             & LINKTYPE_MASK);
        return EPROTO;
    }
    return 0;
}

int
vhost_pcap_open(const char *path, struct vhost_pcap_reader **readerp,
                char **error)
{
    struct vhost_pcap_reader *reader;
    FILE *file = strcmp(path, "-") ? fopen(path, "rb") : stdin;
    char *problem;
    int retval;

    *readerp = NULL;
    *error = NULL;
    if (!file) {
        retval = errno;
        *error = xasprintf("%s: %s", path, ovs_strerror(retval));
        return retval;
    }
    reader = xzalloc(sizeof *reader);
    reader->file = file;
    reader->path = xstrdup(path);
    retval = check_file_header(reader, &problem);
    if (retval) {
        *error = xasprintf("%s %s", path, problem);
        free(problem);
        vhost_pcap_close(reader);
        return retval;
    }
    *readerp = reader;
    return 0;
}

int
vhost_pcap_read(struct vhost_pcap_reader *reader,
                struct vhost_pcap_packet *packet, char **error)
{
    struct packet_header header;
    int retval = read_exactly(reader, &header, sizeof header);

    *error = NULL;
    if (retval == ENODATA) {
        return ENODATA;
    }
    if (!retval) {
        packet->len = get_u32(reader, header.len);
        packet->orig_len = get_u32(reader, header.orig_len);
        if (packet->len > VHOST_PCAP_MAX_LEN
            || packet->len > packet->orig_len
            || get_u32(reader, header.fraction) >= reader->fractions) {
            *error = xasprintf("%s: packet %"PRIu64" has a bad header "
                               "(length %"PRIu32" of %"PRIu32", time "
                               "%"PRIu32")", reader->path, reader->n_packets,
                               packet->len, packet->orig_len,
                               get_u32(reader, header.fraction));
            return EPROTO;
        }
        retval = (packet->len
                  ? read_exactly(reader, reader->data, packet->len) : 0);
    }
    if (retval) {
        *error = xasprintf("%s: packet %"PRIu64" is not complete",
                           reader->path, reader->n_packets);
        return retval == EIO ? EIO : EPROTO;
    }

    packet->ns = (get_u32(reader, header.sec) * UINT64_C(1000000000)
                  + get_u32(reader, header.fraction)
                  * (UINT64_C(1000000000) / reader->fractions));
    packet->data = reader->data;
    reader->n_packets++;
    return 0;
}

void
vhost_pcap_close(struct vhost_pcap_reader *reader)
{
    if (reader) {
        if (reader->file != stdin) {
            fclose(reader->file);
        }
        free(reader->path);
        free(reader);
    }
}

int
vhost_pcap_create(const char *path, struct vhost_pcap_writer **writerp,
                  char **error)
{
    struct file_header header = {
        .magic = MAGIC_NS,
        .major = 2,
        .minor = 4,
        .snaplen = VHOST_PCAP_MAX_LEN,
        .linktype = LINKTYPE_ETHERNET,
    };
    FILE *file = strcmp(path, "-") ? fopen(path, "wb") : stdout;

    *writerp = NULL;
    *error = NULL;
    if (!file) {
        int retval = errno;

        *error = xasprintf("%s: %s", path, ovs_strerror(retval));
        return retval;
    }
    *writerp = xzalloc(sizeof **writerp);
    (*writerp)->file = file;
    (*writerp)->path = xstrdup(path);
    if (fwrite(&header, sizeof header, 1, file) != 1) {
        (*writerp)->error = EIO;
    }
    return 0;
}

void
vhost_pcap_write(struct vhost_pcap_writer *writer, uint64_t ns,
                 const void *data, uint32_t len)
{
    struct packet_header header = {
        .sec = ns / 1000000000,
        .fraction = ns % 1000000000,
        .len = len,
        .orig_len = len,
    };

    if (!writer->error
        && (fwrite(&header, sizeof header, 1, writer->file) != 1
            || (len && fwrite(data, len, 1, writer->file) != 1))) {
        writer->error = errno ? errno : EIO;
    }
}

void
vhost_pcap_flush(struct vhost_pcap_writer *writer)
{
    if (fflush(writer->file) && !writer->error) {
        writer->error = errno ? errno : EIO;
    }
}

int
vhost_pcap_finish(struct vhost_pcap_writer *writer, char **error)
{
    int retval;

    vhost_pcap_flush(writer);
    if (writer->file != stdout && fclose(writer->file) && !writer->error) {
        writer->error = errno ? errno : EIO;
    }
    retval = writer->error;
    *error = (retval ? xasprintf("%s: %s", writer->path, ovs_strerror(retval))
              : NULL);
    free(writer->path);
    free(writer);
    return retval;
}
