// SPDX-License-Identifier: Apache-2.0
/*
 * anima top: what running machines take of this host, as proc(5) counts it of their vmm, the one
 * that takes most first. Again and again; on a terminal in one place.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/table.h"

#define HOME_AND_CLEAR "\033[H\033[J"

const struct cli_flag top_flags[] = {
    {"interval", "SECONDS", "between two looks [2]"},
    {"once", NULL, "print one table, of one interval"},
    {"json", NULL, "print JSON, a list a line"},
    {0},
};

static const struct table_column columns[] = {
    {"NAME", false},  {"STATE", false},   {"ENGINE", false}, {"CPUS", true}, {"CPU%", true},
    {"MEMORY", true}, {"RESIDENT", true}, {"UPTIME", true},  {"PID", true},  {0},
};

/* What a vmm had taken at some time. */
struct usage {
    json_int_t pid;
    guint64 ticks; /* of processors */
    gint64 time_us;
};

/* ---- looking ---- */

/* The numbers of a file in /proc/PID that begin behind the process's name, if it has one. */
static char **read_fields(json_int_t pid, const char *file)
{
    g_autofree char *path = g_strdup_printf("/proc/%" JSON_INTEGER_FORMAT "/%s", pid, file);
    g_autofree char *text = NULL;
    const char *name_end;

    if (!g_file_get_contents(path, &text, NULL, NULL))
        return NULL;
    name_end = strrchr(text, ')');
    return g_strsplit(name_end ? name_end + 2 : text, " ", -1);
}

static guint64 field(char **fields, unsigned index)
{
    return fields && index < g_strv_length(fields) ? g_ascii_strtoull(fields[index], NULL, 10) : 0;
}

/* Of the processors since the look before; `usages` remembers this one. */
static double measure_cpu(GHashTable *usages, const char *name, json_int_t pid)
{
    enum { UTIME = 11, STIME = 12 }; /* fields behind the name */
    g_auto(GStrv) fields = read_fields(pid, "stat");
    const struct usage now = {pid, field(fields, UTIME) + field(fields, STIME),
                              g_get_monotonic_time()};
    const struct usage *before = g_hash_table_lookup(usages, name);
    double percent = 0;

    if (before && before->pid == pid && now.time_us > before->time_us && now.ticks > before->ticks)
        percent = (double)(now.ticks - before->ticks) / sysconf(_SC_CLK_TCK) /
                  ((now.time_us - before->time_us) / 1e6) * 100;
    g_hash_table_insert(usages, g_strdup(name), g_memdup2(&now, sizeof(now)));
    return percent;
}

static json_int_t measure_resident(json_int_t pid)
{
    enum { RESIDENT = 1 };
    g_auto(GStrv) fields = read_fields(pid, "statm");

    return (json_int_t)field(fields, RESIDENT) * sysconf(_SC_PAGESIZE);
}

static int compare(const void *a, const void *b)
{
    double first = json_real_value(json_object_get(*(json_t *const *)a, "cpu_percent"));
    double second = json_real_value(json_object_get(*(json_t *const *)b, "cpu_percent"));

    return (first < second) - (first > second);
}

/* The running machines with what they take, in order; NULL and `error` on failure. */
static json_t *look(GHashTable *usages, struct anima_error **error)
{
    static const char *const told[] = {"name",   "state",     "engine", "cpus",
                                       "memory", "uptime_ms", "pid"};
    char *text = anima_inventory(error);
    json_t *all = text ? json_loads(text, 0, NULL) : NULL, *machine, *list;
    g_autoptr(GPtrArray) running = g_ptr_array_new();
    size_t i;

    anima_free(text);
    if (!all)
        return NULL;
    json_array_foreach(all, i, machine)
    {
        json_int_t pid = json_integer_value(json_object_get(machine, "pid"));
        const char *name = json_string_value(json_object_get(machine, "name"));
        json_t *row;

        if (!pid)
            continue;
        row = json_object();
        for (unsigned j = 0; j < G_N_ELEMENTS(told); j++)
            json_object_set(row, told[j], json_object_get(machine, told[j]));
        json_object_set_new(row, "cpu_percent", json_real(measure_cpu(usages, name, pid)));
        json_object_set_new(row, "resident", json_integer(measure_resident(pid)));
        g_ptr_array_add(running, row);
    }
    json_decref(all);
    if (running->len)
        qsort(running->pdata, running->len, sizeof(void *), compare);
    list = json_array();
    for (unsigned j = 0; j < running->len; j++)
        json_array_append_new(list, running->pdata[j]);
    return list;
}

/* ---- printing ---- */

static char *number_of(const json_t *row, const char *key, json_int_t unit, const char *suffix)
{
    return g_strdup_printf("%" JSON_INTEGER_FORMAT "%s",
                           json_integer_value(json_object_get(row, key)) / unit, suffix);
}

static char *duration_of(const json_t *row)
{
    json_int_t seconds = json_integer_value(json_object_get(row, "uptime_ms")) / 1000;

    return g_strdup_printf("%d:%02d:%02d", (int)(seconds / 3600), (int)(seconds / 60 % 60),
                           (int)(seconds % 60));
}

static void print_table(const json_t *list)
{
    struct table *table = table_create(columns);
    json_t *row;
    size_t i;

    json_array_foreach(list, i, row)
    {
        table_add(table, g_strdup(table_text(row, "name")));
        table_add(table, g_strdup(table_text(row, "state")));
        table_add(table, g_strdup(table_text(row, "engine")));
        table_add(table, number_of(row, "cpus", 1, ""));
        table_add(table,
                  g_strdup_printf("%.1f", json_real_value(json_object_get(row, "cpu_percent"))));
        table_add(table, number_of(row, "memory", 1 << 20, "M"));
        table_add(table, number_of(row, "resident", 1 << 20, "M"));
        table_add(table, duration_of(row));
        table_add(table, number_of(row, "pid", 1, ""));
    }
    table_print(table, terminal_width());
    table_destroy(table);
}

static void print(const json_t *list, const cli_words *words)
{
    if (cli_flag(words, "json")) {
        json_dumpf(list, stdout, JSON_COMPACT | JSON_REAL_PRECISION(6));
        putchar('\n');
    } else {
        if (terminal_width() && !cli_flag(words, "once"))
            fputs(HOME_AND_CLEAR, stdout);
        print_table(list);
    }
    fflush(stdout);
}

static int follow(const cli_words *words, double interval)
{
    g_autoptr(GHashTable) usages = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    struct anima_error *error = NULL;
    json_t *list;

    /* The first look is what the second one is compared with. */
    for (bool first = true; (list = look(usages, &error)); first = false) {
        if (!first)
            print(list, words);
        json_decref(list);
        if (ferror(stdout) || (!first && cli_flag(words, "once")))
            return CLI_GOOD;
        g_usleep((gulong)(interval * G_USEC_PER_SEC));
    }
    return cli_fail_error(error);
}

int command_top(const struct command *command, int argc, char **argv)
{
    int status;
    g_autoptr(cli_words) words = cli_words_parse(command, argc, argv, &status);
    const char *text;
    double interval = 2;
    char *end = NULL;

    if (!words)
        return status;
    text = cli_flag(words, "interval");
    if (text)
        interval = g_ascii_strtod(text, &end);
    if (text && (end == text || *end || !isfinite(interval) || interval < 0.1 || interval > 3600))
        return cli_fail(CLI_USAGE, "--interval: expected 0.1 to 3600 seconds, not '%s'", text);
    return follow(words, interval);
}
