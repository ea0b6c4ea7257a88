// SPDX-License-Identifier: Apache-2.0
/*
 * What is told to an image for clouds, which cloud-init sets up at its first start: the options,
 * and the documents that it reads (cloud-init's data source NoCloud).
 *
 * User's words become JSON, which is YAML as well: no text can break out of its value. The text of
 * a file of his own is a document of its own, as it is.
 */
#pragma once

#include <jansson.h>

#include "config/schema.h"

enum cloud_option {
    CLOUD_IMAGE,
    CLOUD_IMAGE_FORMAT,
    CLOUD_DISK_SIZE,
    CLOUD_USER,
    CLOUD_SSH_KEY,
    CLOUD_PASSWORD_HASH,
    CLOUD_HOSTNAME,
    CLOUD_USER_DATA,
    CLOUD_NETWORK_CONFIG,
    CLOUD_COUNT,
};

/* The table, indexed by enum cloud_option and ended by a row without key. */
extern const struct option cloud_options[CLOUD_COUNT + 1];

struct cloud;

/* From a JSON object of options, for the machine called `name`; the files that it names are read,
 * but for the image. USAGE for what is wrong with the options or in those files. */
struct cloud *cloud_create(const json_t *object, const char *name, GError **error);
/* NULL is fine. */
void cloud_destroy(struct cloud *cloud);

/* The image's name. */
const char *cloud_image(const struct cloud *cloud);
/* How that holds the disk: "raw", "qcow2", "vhd". */
const char *cloud_image_format(const struct cloud *cloud);
/* Bytes of the disk; 0: as large as the image. */
uint64_t cloud_disk_size(const struct cloud *cloud);
/* The user to make; NULL: none. */
const char *cloud_user(const struct cloud *cloud);
/* The private key that belongs to the one public key that was given as a file, if it lies beside
 * that; else NULL. */
const char *cloud_identity(const struct cloud *cloud);

/* The documents of the data source as a new JSON object: name to text. `instance` is what
 * cloud-init knows the machine by: with another one it sets everything up again. */
json_t *cloud_documents(const struct cloud *cloud, const char *instance);
