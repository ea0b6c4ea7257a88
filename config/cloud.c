// SPDX-License-Identifier: Apache-2.0
/*
 * Options of a cloud's image, and the documents of them.
 *
 * The user is the image's own default user under another name (cloud-config's `user`), so that he
 * has the groups and the shell that the distribution gives to that one. Where there is a user-data
 * file of the user's own it is the document of this name, and ours is the vendor's, over which it
 * wins.
 */
#include "config/cloud.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "config/limits.h"
#include "config/values.h"

#define USER_MAX     32     /* bytes: what fits into utmp */
#define HOSTNAME_MAX 63     /* bytes of a label, RFC 1123 section 2.1 */
#define KEY_PREFIX   "AAAA" /* every public key in base64: its type is shorter than 16 MB */

struct cloud {
    struct values *values;
    char *hostname;
    GPtrArray *keys; /* of char *: lines of an authorized_keys(5) file */
    char *identity;
    char *user_data, *network_config;
};

/* ---- checks of options ---- */

/* As useradd(8) of Debian and of Red Hat both take it. */
static bool check_user(const char *text, GError **error)
{
    size_t length = strlen(text);
    bool good = length >= 1 && length <= USER_MAX && (g_ascii_islower(text[0]) || text[0] == '_');

    for (size_t i = 0; good && i < length; i++)
        good = g_ascii_islower(text[i]) || g_ascii_isdigit(text[i]) || strchr("-_", text[i]);
    return good || text_refuse(text, error, "a name of up to %d small letters, digits, '-' and '_'",
                               USER_MAX);
}

static bool check_hostname(const char *text, GError **error)
{
    size_t length = strlen(text);
    bool good = length >= 1 && length <= HOSTNAME_MAX && g_ascii_isalnum(text[0]) &&
                g_ascii_isalnum(text[length - 1]);

    for (size_t i = 0; good && i < length; i++)
        good = g_ascii_isalnum(text[i]) || text[i] == '-' || text[i] == '.';
    return good || text_refuse(text, error, "a name of up to %d letters, digits, '-' and '.'",
                               HOSTNAME_MAX);
}

/* What crypt(5) makes: $ID$..., of characters that no other file would take for its own. */
static bool check_hash(const char *text, GError **error)
{
    bool good = text[0] == '$' && strlen(text) >= 8;

    for (const char *at = text; good && *at; at++)
        good = g_ascii_isalnum(*at) || strchr("$./=,-_+", *at);
    if (!good)
        /* The words may be a password. */
        g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_USAGE,
                    "expected a hash such as 'mkpasswd' or 'openssl passwd -6' prints");
    return good;
}

static const char *const format_choices[] = {"raw", "qcow2", "vhd", NULL};

const struct option cloud_options[CLOUD_COUNT + 1] = {
    [CLOUD_IMAGE] =
        {
            .key = "cloud-image",
            .type = OPTION_TYPE_PATH,
            .required = true,
            .argument = "FILE",
            .help = "image with cloud-init, whose copy is the first disk",
            .manual = "The copy belongs to the machine, as _disks/root.img_ in its folder, and "
                      "takes no room that the image does not take; the image stays as it is.",
        },
    [CLOUD_IMAGE_FORMAT] =
        {
            .key = "image-format",
            .type = OPTION_TYPE_ENUM,
            .argument = "FORMAT",
            .preset = "raw",
            .choices = format_choices,
            .help = "how the image holds the disk",
            .manual = "As *--disk*'s member _format_. It is never guessed.",
        },
    [CLOUD_DISK_SIZE] =
        {
            .key = "disk-size",
            .type = OPTION_TYPE_SIZE,
            .argument = "SIZE",
            .min = 1,
            .max = 1ULL << 50,
            .align = 512,
            .help = "size of that disk, when the image's is too small",
            .manual = "Of a raw image. The guest makes its file system larger when it starts "
                      "first.",
        },
    [CLOUD_USER] =
        {
            .key = "user",
            .type = OPTION_TYPE_STRING,
            .argument = "NAME",
            .check = check_user,
            .help = "user to make, who may do all by sudo",
            .manual = "On the command line the name of who calls, unless that is root, or "
                      "*--user-data* is given.",
        },
    [CLOUD_SSH_KEY] =
        {
            .key = "ssh-key",
            .type = OPTION_TYPE_STRING,
            .list = true,
            .argument = "FILE|KEY",
            .help = "public key of the user's, or a file of them",
            .manual = "On the command line the one in _~/.ssh_, if there is no more than one.",
        },
    [CLOUD_PASSWORD_HASH] =
        {
            .key = "password-hash",
            .type = OPTION_TYPE_STRING,
            .argument = "HASH",
            .check = check_hash,
            .help = "hash of the user's password, for a login on the console",
            .manual = "As *mkpasswd* prints it. Without it the user has no password.",
        },
    [CLOUD_HOSTNAME] =
        {
            .key = "hostname",
            .type = OPTION_TYPE_STRING,
            .argument = "NAME",
            .check = check_hostname,
            .help = "the guest's name for itself",
            .manual = "Without it, the machine's name.",
        },
    [CLOUD_USER_DATA] =
        {
            .key = "user-data",
            .type = OPTION_TYPE_PATH,
            .argument = "FILE",
            .help = "a document for cloud-init: packages, files, commands",
            .manual = "Where it says something else than the other options, it wins.",
        },
    [CLOUD_NETWORK_CONFIG] =
        {
            .key = "network-config",
            .type = OPTION_TYPE_PATH,
            .argument = "FILE",
            .help = "the guest's network, as cloud-init writes it down",
            .manual = "Without it the guest asks by DHCP.",
        },
};

/* ---- keys ---- */

static bool fail_key(const char *where, const char *what, GError **error)
{
    g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_USAGE, "ssh-key: %s%s%s", where ? where : "",
                where ? ": " : "", what);
    return false;
}

/* Whether the blob begins with its type as RFC 4253 section 6.6 has it. */
static bool is_of_type(const char *blob, const char *type)
{
    gsize size, length = strlen(type);
    g_autofree guchar *bytes = g_base64_decode(blob, &size);

    return size > 4 + length && bytes[0] == 0 && bytes[1] == 0 && bytes[2] == 0 &&
           bytes[3] == length && memcmp(bytes + 4, type, length) == 0;
}

static bool is_base64(const char *text)
{
    size_t length =
        strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/");
    size_t padding = strspn(text + length, "=");

    return length && padding <= 2 && !text[length + padding] && (length + padding) % 4 == 0;
}

/* TYPE BLOB [COMMENT], nothing before it. A comment's foreign letters become '?'. */
static bool add_key(struct cloud *cloud, const char *line, const char *where, GError **error)
{
    g_auto(GStrv) words = g_strsplit(line, " ", 3);
    char *whole;

    if (strstr(line, "PRIVATE KEY"))
        return fail_key(where, "a private key; give the public one (the file with .pub)", error);
    if (g_strv_length(words) < 2 || !is_base64(words[1]) || !is_of_type(words[1], words[0]))
        return fail_key(where, "no public key such as 'ssh-ed25519 AAAA...'", error);
    if (cloud->keys->len >= CONFIG_LIST_MAX)
        return fail_key(where, "too many keys", error);
    whole = g_strjoinv(" ", words);
    for (char *at = whole; *at; at++)
        if (!g_ascii_isprint(*at))
            *at = '?';
    g_ptr_array_add(cloud->keys, whole);
    return true;
}

/* The lines of a file of public keys. */
static bool add_key_file(struct cloud *cloud, const char *path, GError **error)
{
    g_autoptr(GByteArray) bytes = definition_read_file(path, error);
    g_autofree char *text = bytes ? g_strndup((char *)bytes->data, bytes->len) : NULL;
    g_auto(GStrv) lines = text ? g_strsplit(text, "\n", -1) : NULL;
    unsigned before = cloud->keys->len;

    if (!bytes) {
        g_prefix_error(error, "ssh-key: ");
        return false;
    }
    for (char **line = lines; *line; line++) {
        g_strstrip(*line);
        if (**line && **line != '#' && !add_key(cloud, *line, path, error))
            return false;
    }
    return cloud->keys->len > before || fail_key(path, "no public key in it", error);
}

/* The private key beside a public one. */
static char *find_identity(const char *path)
{
    g_autofree char *whole = g_canonicalize_filename(path, NULL);

    if (!g_str_has_suffix(whole, ".pub"))
        return NULL;
    whole[strlen(whole) - strlen(".pub")] = 0;
    return access(whole, F_OK) == 0 ? g_steal_pointer(&whole) : NULL;
}

static bool add_keys(struct cloud *cloud, GError **error)
{
    const struct option *option = &cloud_options[CLOUD_SSH_KEY];
    unsigned count = values_count(cloud->values, option);

    for (unsigned i = 0; i < count; i++) {
        const char *text = values_entry(cloud->values, option, i);
        const char *space = strchr(text, ' ');

        if (space && g_str_has_prefix(space + 1, KEY_PREFIX)) {
            if (!add_key(cloud, text, NULL, error))
                return false;
            continue;
        }
        if (!add_key_file(cloud, text, error))
            return false;
        if (count == 1)
            cloud->identity = find_identity(text);
    }
    return true;
}

/* ---- files of the user's ---- */

/* The text of the file that the option names; an empty one for none. */
static bool read_text(const struct cloud *cloud, enum cloud_option id, char **text, GError **error)
{
    const char *path = values_text(cloud->values, &cloud_options[id]);
    g_autoptr(GByteArray) bytes = path ? definition_read_file(path, error) : NULL;

    if (!path)
        return true;
    if (bytes && g_utf8_validate_len((char *)bytes->data, bytes->len, NULL)) {
        *text = g_strndup((char *)bytes->data, bytes->len);
        return true;
    }
    if (bytes)
        g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_USAGE, "%s: no text in UTF-8", path);
    g_prefix_error(error, "%s: ", cloud_options[id].key);
    return false;
}

/* cloud-init tells documents by their first line, and passes over what it does not know. */
static bool check_user_data(const struct cloud *cloud, GError **error)
{
    static const char *const starts[] = {"#", "Content-Type:", "MIME-Version:", "From "};

    for (unsigned i = 0; i < G_N_ELEMENTS(starts); i++)
        if (!cloud->user_data || g_str_has_prefix(cloud->user_data, starts[i]))
            return true;
    g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_USAGE,
                "user-data: %s: cloud-init would pass over it; its first line is '#cloud-config', "
                "or '#!' and a program",
                values_text(cloud->values, &cloud_options[CLOUD_USER_DATA]));
    return false;
}

/* ---- the whole ---- */

static bool refuse(const char *message, GError **error)
{
    g_set_error_literal(error, CONFIG_ERROR, CONFIG_ERROR_USAGE, message);
    return false;
}

/* What one option alone cannot say. */
static bool check(const struct cloud *cloud, GError **error)
{
    const struct values *values = cloud->values;
    bool hash = values_given(values, &cloud_options[CLOUD_PASSWORD_HASH]);

    if (!cloud_image(cloud))
        return refuse("cloud-image: FILE is missing", error);
    if (cloud_disk_size(cloud) && !g_str_equal(cloud_image_format(cloud), "raw"))
        return refuse("disk-size: an image that is not raw has its size within itself; 'qemu-img "
                      "resize' changes it",
                      error);
    if (!cloud_user(cloud) && (cloud->keys->len || hash))
        return refuse("user: a key or a password needs the name of its user", error);
    if (!cloud_user(cloud) && !cloud->user_data)
        return refuse("user: nobody could log in; name a user, or give user-data", error);
    if (cloud_user(cloud) && !cloud->keys->len && !hash && !cloud->user_data)
        return refuse("ssh-key: nobody could log in; give a public key, or a password-hash", error);
    return check_user_data(cloud, error);
}

/* A machine's name has characters that no host's may have. */
static char *make_hostname(const char *name)
{
    char *hostname = g_strndup(name, HOSTNAME_MAX);
    size_t length = strlen(hostname);

    g_strdelimit(hostname, "_", '-');
    while (length > 1 && !g_ascii_isalnum(hostname[length - 1]))
        hostname[--length] = 0;
    return hostname;
}

struct cloud *cloud_create(const json_t *object, const char *name, GError **error)
{
    struct cloud *cloud = g_new0(struct cloud, 1);
    const char *hostname;

    cloud->values = values_create(cloud_options);
    cloud->keys = g_ptr_array_new_with_free_func(g_free);
    if (values_from_json(cloud->values, object, error) && add_keys(cloud, error) &&
        read_text(cloud, CLOUD_USER_DATA, &cloud->user_data, error) &&
        read_text(cloud, CLOUD_NETWORK_CONFIG, &cloud->network_config, error) &&
        check(cloud, error)) {
        hostname = values_text(cloud->values, &cloud_options[CLOUD_HOSTNAME]);
        cloud->hostname = hostname ? g_strdup(hostname) : make_hostname(name);
        return cloud;
    }
    cloud_destroy(cloud);
    return NULL;
}

void cloud_destroy(struct cloud *cloud)
{
    if (!cloud)
        return;
    values_destroy(cloud->values);
    g_ptr_array_unref(cloud->keys);
    g_free(cloud->hostname);
    g_free(cloud->identity);
    g_free(cloud->user_data);
    g_free(cloud->network_config);
    g_free(cloud);
}

const char *cloud_image(const struct cloud *cloud)
{
    return values_text(cloud->values, &cloud_options[CLOUD_IMAGE]);
}

const char *cloud_image_format(const struct cloud *cloud)
{
    return values_text(cloud->values, &cloud_options[CLOUD_IMAGE_FORMAT]);
}

uint64_t cloud_disk_size(const struct cloud *cloud)
{
    return values_number(cloud->values, &cloud_options[CLOUD_DISK_SIZE]);
}

const char *cloud_user(const struct cloud *cloud)
{
    return values_text(cloud->values, &cloud_options[CLOUD_USER]);
}

const char *cloud_identity(const struct cloud *cloud)
{
    return cloud->identity;
}

/* ---- documents ---- */

/* cloud-config's `user`. */
static json_t *describe_user(const struct cloud *cloud)
{
    const char *hash = values_text(cloud->values, &cloud_options[CLOUD_PASSWORD_HASH]);
    json_t *user = json_object(), *keys = json_array();

    for (unsigned i = 0; i < cloud->keys->len; i++)
        json_array_append_new(keys, json_string(cloud->keys->pdata[i]));
    json_object_set_new(user, "name", json_string(cloud_user(cloud)));
    json_object_set_new(user, "sudo", json_string("ALL=(ALL) NOPASSWD:ALL"));
    json_object_set_new(user, "ssh_authorized_keys", keys);
    json_object_set_new(user, "lock_passwd", json_boolean(!hash));
    if (hash)
        json_object_set_new(user, "passwd", json_string(hash));
    return user;
}

/* Ours, as text. */
static char *write_config(const struct cloud *cloud)
{
    /* A card may be another at the next boot, as after an import under another name. */
    json_t *config = json_pack("{s:{s:{s:[s, s, s]}}}", "updates", "network", "when",
                               "boot-new-instance", "boot", "hotplug");
    char *json, *text;

    if (cloud_user(cloud))
        json_object_set_new(config, "user", describe_user(cloud));
    if (g_strcmp0(cloud_user(cloud), "root") == 0)
        json_object_set_new(config, "disable_root", json_false());
    json = json_dumps(config, JSON_INDENT(2));
    text = g_strdup_printf("#cloud-config\n%s\n", json);
    free(json);
    json_decref(config);
    return text;
}

static char *write_meta_data(const struct cloud *cloud, const char *instance)
{
    json_t *data =
        json_pack("{s:s, s:s}", "instance-id", instance, "local-hostname", cloud->hostname);
    char *json = json_dumps(data, JSON_INDENT(2));
    char *text = g_strdup_printf("%s\n", json);

    free(json);
    json_decref(data);
    return text;
}

json_t *cloud_documents(const struct cloud *cloud, const char *instance)
{
    g_autofree char *config = write_config(cloud), *meta_data = write_meta_data(cloud, instance);
    json_t *documents = json_object();

    json_object_set_new(documents, "meta-data", json_string(meta_data));
    if (cloud->user_data)
        json_object_set_new(documents, "vendor-data", json_string(config));
    json_object_set_new(documents, "user-data",
                        json_string(cloud->user_data ? cloud->user_data : config));
    if (cloud->network_config)
        json_object_set_new(documents, "network-config", json_string(cloud->network_config));
    return documents;
}
