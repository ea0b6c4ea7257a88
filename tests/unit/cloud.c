// SPDX-License-Identifier: Apache-2.0
/*
 * What is told to an image for clouds: words that are refused, and documents that say what was
 * asked for and nothing else.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <glib/gstdio.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "config/cloud.h"

#define KEY "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAtgDbJsuOFJ5YH5MHYS8DPbjw0qZEBgMDrIZ4PnydxD"

/* A cloud of these options in JSON, with ' for ". */
static struct cloud *make(const char *given, GError **error)
{
    g_autofree char *text = g_strdup(given);
    json_t *object = json_loads(g_strdelimit(text, "'", '"'), 0, NULL);
    struct cloud *cloud;

    assert_non_null(object);
    cloud = cloud_create(object, "web_1", error);
    json_decref(object);
    return cloud;
}

static void assert_refused(const char *given, const char *part)
{
    GError *error = NULL;

    assert_null(make(given, &error));
    assert_non_null(error);
    if (!strstr(error->message, part))
        fail_msg("'%s' does not say '%s'", error->message, part);
    assert_null(strchr(error->message, '\n'));
    g_error_free(error);
}

static json_t *documents_of(const char *given)
{
    struct cloud *cloud = make(given, NULL);
    json_t *documents;

    assert_non_null(cloud);
    documents = cloud_documents(cloud, "i-1");
    cloud_destroy(cloud);
    return documents;
}

static const char *text_of(const json_t *documents, const char *name)
{
    return json_string_value(json_object_get(documents, name));
}

/* The cloud-config as an object. */
static json_t *config_of(const json_t *documents, const char *name)
{
    const char *text = text_of(documents, name);
    json_t *config;

    assert_non_null(text);
    assert_true(g_str_has_prefix(text, "#cloud-config\n"));
    config = json_loads(strchr(text, '\n'), 0, NULL);
    assert_non_null(config);
    return config;
}

static const char *write_file(const char *folder, const char *name, const char *text)
{
    static char path[256];

    snprintf(path, sizeof(path), "%s/%s", folder, name);
    assert_true(g_file_set_contents(path, text, -1, NULL));
    return path;
}

/* ---- documents ---- */

static void the_user_is_the_images_own_under_his_name(void **state)
{
    json_t *documents = documents_of("{'cloud-image': 'i', 'user': 'me', 'ssh-key': '" KEY "'}");
    json_t *config = config_of(documents, "user-data"), *user = json_object_get(config, "user");
    json_t *keys = json_object_get(user, "ssh_authorized_keys");

    assert_string_equal(json_string_value(json_object_get(user, "name")), "me");
    assert_string_equal(json_string_value(json_object_get(user, "sudo")), "ALL=(ALL) NOPASSWD:ALL");
    assert_true(json_is_true(json_object_get(user, "lock_passwd")));
    assert_null(json_object_get(user, "passwd"));
    assert_int_equal(json_array_size(keys), 1);
    assert_string_equal(json_string_value(json_array_get(keys, 0)), KEY);
    assert_non_null(json_object_get(config, "updates"));
    assert_int_equal(json_object_size(config), 2);
    assert_null(text_of(documents, "vendor-data"));
    assert_null(text_of(documents, "network-config"));
    json_decref(config);
    json_decref(documents);
}

static void a_host_is_called_as_its_machine_where_that_can_be(void **state)
{
    static const char *const cases[][2] = {
        {"{'cloud-image': 'i', 'user': 'me', 'password-hash': '$6$a$bcdefgh'}", "web-1"},
        {"{'cloud-image': 'i', 'user': 'me', 'password-hash': '$6$a$bcdefgh', 'hostname': 'a.b'}",
         "a.b"},
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        json_t *documents = documents_of(cases[i][0]);
        json_t *data = json_loads(text_of(documents, "meta-data"), 0, NULL);

        assert_string_equal(json_string_value(json_object_get(data, "local-hostname")),
                            cases[i][1]);
        assert_string_equal(json_string_value(json_object_get(data, "instance-id")), "i-1");
        json_decref(data);
        json_decref(documents);
    }
}

static void a_password_is_a_hash_and_root_may_be_the_user(void **state)
{
    json_t *documents =
        documents_of("{'cloud-image': 'i', 'user': 'root', 'password-hash': '$6$a$bcdefgh'}");
    json_t *config = config_of(documents, "user-data"), *user = json_object_get(config, "user");

    assert_true(json_is_false(json_object_get(user, "lock_passwd")));
    assert_string_equal(json_string_value(json_object_get(user, "passwd")), "$6$a$bcdefgh");
    assert_true(json_is_false(json_object_get(config, "disable_root")));
    json_decref(config);
    json_decref(documents);
}

static void a_users_own_document_goes_along_as_it_is(void **state)
{
    const char *text = "#cloud-config\npackages: [\"a\\n\", 'b']\n# \xc3\xa9\n";
    g_autofree char *path = g_strdup(write_file(*state, "user-data", text));
    g_autofree char *network = g_strdup(write_file(*state, "network", "version: 2\n"));
    g_autofree char *given = g_strdup_printf("{'cloud-image': 'i', 'user': 'me', 'ssh-key': '" KEY
                                             "', 'user-data': '%s', 'network-config': '%s'}",
                                             path, network);
    json_t *documents = documents_of(given), *config = config_of(documents, "vendor-data");

    assert_string_equal(text_of(documents, "user-data"), text);
    assert_string_equal(text_of(documents, "network-config"), "version: 2\n");
    assert_non_null(json_object_get(config, "user"));
    json_decref(config);
    json_decref(documents);
}

static void keys_come_from_files_and_from_words(void **state)
{
    g_autofree char *path = g_strdup(write_file(*state, "id.pub",
                                                "# two\n\n" KEY " me@\xc3\xa9"
                                                "\n  " KEY " \"quoted: {%\r\n"));
    g_autofree char *given = g_strdup_printf(
        "{'cloud-image': 'i', 'user': 'me', 'ssh-key': ['%s', '" KEY " third']}", path);
    json_t *documents = documents_of(given), *config = config_of(documents, "user-data");
    json_t *keys = json_object_get(json_object_get(config, "user"), "ssh_authorized_keys");
    static const char *const expected[] = {KEY " me@??", KEY " \"quoted: {%", KEY " third"};

    assert_int_equal(json_array_size(keys), G_N_ELEMENTS(expected));
    for (unsigned i = 0; i < G_N_ELEMENTS(expected); i++)
        assert_string_equal(json_string_value(json_array_get(keys, i)), expected[i]);
    json_decref(config);
    json_decref(documents);
}

static void the_private_key_is_the_one_beside_the_public_one(void **state)
{
    g_autofree char *public = g_strdup(write_file(*state, "id.pub", KEY "\n"));
    g_autofree char *given =
        g_strdup_printf("{'cloud-image': 'i', 'user': 'me', 'ssh-key': '%s'}", public);
    g_autofree char *private = NULL;
    struct cloud *cloud = make(given, NULL);

    assert_null(cloud_identity(cloud));
    cloud_destroy(cloud);
    private = g_strdup(write_file(*state, "id", "secret"));
    cloud = make(given, NULL);
    assert_string_equal(cloud_identity(cloud), private);
    cloud_destroy(cloud);
}

/* ---- refusals ---- */

static void names_that_no_user_can_have_are_refused(void **state)
{
    static const char *const names[] = {
        "",
        "Me",
        "1me",
        "-me",
        "me you",
        "me:x",
        "../me",
        "me/you",
        "m\xc3\xa9",
        "me\\n",
        "a\\\\nb: c",
        "#me",
        "me#",
        "{me}",
        "*",
        "me,you",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(names); i++) {
        g_autofree char *given =
            g_strdup_printf("{'cloud-image': 'i', 'user': '%s', 'ssh-key': '" KEY "'}", names[i]);

        assert_refused(given, "user: ");
    }
}

static void what_is_no_public_key_is_refused(void **state)
{
    static const struct {
        const char *text, *part;
    } keys[] = {
        {"ssh-ed25519 AAAA", "no public key"},
        {"ssh-ed25519 AAAAB3NzaC1yc2EAAAADAQABAAAAgQ==", "no public key"},
        {"command=sh " KEY, "ssh-key: "},
        {KEY "\\n" KEY, "ssh-key: "},
        {KEY "\\nroot: yes", "ssh-key: "},
        {"/nonexistent/id.pub", "No such file"},
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(keys); i++) {
        g_autofree char *given = g_strdup_printf(
            "{\"cloud-image\": \"i\", \"user\": \"me\", \"ssh-key\": \"%s\"}", keys[i].text);

        assert_refused(given, keys[i].part);
    }
}

static void files_that_hold_no_public_keys_are_refused(void **state)
{
    static const char *const texts[][2] = {
        {"-----BEGIN OPENSSH PRIVATE KEY-----\nx\n", "a private key; give the public one"},
        {"", "no public key in it"},
        {"# only words\n", "no public key in it"},
        {KEY "\nssh-rsa what\n", "no public key such as"},
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(texts); i++) {
        g_autofree char *given =
            g_strdup_printf("{'cloud-image': 'i', 'user': 'me', 'ssh-key': '%s'}",
                            write_file(*state, "key", texts[i][0]));

        assert_refused(given, texts[i][1]);
    }
}

static void a_machine_that_nobody_could_enter_is_refused(void **state)
{
    assert_refused("{'user': 'me', 'ssh-key': '" KEY "'}", "cloud-image: FILE is missing");
    assert_refused("{'cloud-image': 'i'}", "user: nobody could log in");
    assert_refused("{'cloud-image': 'i', 'user': 'me'}", "ssh-key: nobody could log in");
    assert_refused("{'cloud-image': 'i', 'ssh-key': '" KEY "'}", "user: a key or a password");
    assert_refused("{'cloud-image': 'i', 'user': 'me', 'password-hash': 'secret'}",
                   "expected a hash");
    assert_refused("{'cloud-image': 'i', 'user': 'me', 'password-hash': '$6$a:b$cdefgh'}",
                   "expected a hash");
    assert_refused("{'cloud-image': 'i', 'uesr': 'me'}", "uesr");
    assert_refused("{'cloud-image': 'i', 'user': ['me']}", "user: ");
    assert_refused("{'cloud-image': 'i', 'hostname': 'a_b', 'user': 'me', 'ssh-key': '" KEY "'}",
                   "hostname: ");
    assert_refused("{'cloud-image': 'i', 'disk-size': 'much'}", "disk-size: ");
}

static void what_cloud_init_would_not_read_is_refused(void **state)
{
    g_autofree char *large = g_strnfill(2 << 20, '#');
    const char *const texts[][2] = {
        {"packages: [a]\n", "would pass over it"},
        {"", "would pass over it"},
        {"#cloud-config\n\xff\n", "no text in UTF-8"},
        {large, "more than"},
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(texts); i++) {
        g_autofree char *given = g_strdup_printf("{'cloud-image': 'i', 'user-data': '%s'}",
                                                 write_file(*state, "data", texts[i][0]));

        assert_refused(given, "user-data: ");
        assert_refused(given, texts[i][1]);
    }
}

/* ---- */

static int make_folder(void **state)
{
    *state = g_dir_make_tmp("anima-cloud-XXXXXX", NULL);
    return *state ? 0 : -1;
}

static int remove_folder(void **state)
{
    g_autoptr(GDir) folder = g_dir_open(*state, 0, NULL);
    const char *name;

    while ((name = g_dir_read_name(folder))) {
        g_autofree char *path = g_build_filename(*state, name, NULL);

        unlink(path);
    }
    rmdir(*state);
    g_free(*state);
    return 0;
}

#define cloud_test(function) cmocka_unit_test_setup_teardown(function, make_folder, remove_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cloud_test(the_user_is_the_images_own_under_his_name),
        cloud_test(a_host_is_called_as_its_machine_where_that_can_be),
        cloud_test(a_password_is_a_hash_and_root_may_be_the_user),
        cloud_test(a_users_own_document_goes_along_as_it_is),
        cloud_test(keys_come_from_files_and_from_words),
        cloud_test(the_private_key_is_the_one_beside_the_public_one),
        cloud_test(names_that_no_user_can_have_are_refused),
        cloud_test(what_is_no_public_key_is_refused),
        cloud_test(files_that_hold_no_public_keys_are_refused),
        cloud_test(a_machine_that_nobody_could_enter_is_refused),
        cloud_test(what_cloud_init_would_not_read_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
