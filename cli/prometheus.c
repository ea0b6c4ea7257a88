// SPDX-License-Identifier: Apache-2.0
/*
 * Metrics in the text format of Prometheus (prometheus.io/docs/instrumenting/exposition_formats):
 * each metric with its help and type once, then a sample for each machine, or for each of its
 * vCPUs.
 */
#include "cli/prometheus.h"

#include <stdio.h>
#include <string.h>

#define CALL_TIMEOUT_MS 2000

/* A metric and what is known of it so far. */
struct metric {
    char *name, *help;
    const char *type; /* static */
    GString *samples;
};

struct prometheus {
    GPtrArray *metrics; /* of struct metric *, in the order of their first sample */
};

static void metric_free(void *opaque)
{
    struct metric *metric = opaque;

    g_free(metric->name);
    g_free(metric->help);
    g_string_free(metric->samples, TRUE);
    g_free(metric);
}

static struct metric *find(struct prometheus *prometheus, const char *name, const char *type,
                           const char *help)
{
    struct metric *metric;

    for (unsigned i = 0; i < prometheus->metrics->len; i++) {
        metric = prometheus->metrics->pdata[i];
        if (strcmp(metric->name, name) == 0)
            return metric;
    }
    metric = g_new0(struct metric, 1);
    *metric = (struct metric){g_strdup(name), g_strdup(help), type, g_string_new(NULL)};
    g_ptr_array_add(prometheus->metrics, metric);
    return metric;
}

/* KEY="VALUE" with what the format wants escaped. */
static void add_label(GString *samples, const char *key, const char *value)
{
    g_string_append_printf(samples, "%s%s=\"", samples->str[samples->len - 1] == '{' ? "" : ",",
                           key);
    for (; *value; value++) {
        if (*value == '\\' || *value == '"')
            g_string_append_c(samples, '\\');
        if (*value == '\n')
            g_string_append(samples, "\\n");
        else
            g_string_append_c(samples, *value);
    }
    g_string_append_c(samples, '"');
}

static void begin_sample(struct metric *metric, const char *machine)
{
    g_string_append_printf(metric->samples, "%s{", metric->name);
    add_label(metric->samples, "machine", machine);
}

static void add_value(struct prometheus *prometheus, const char *machine, const char *name,
                      const char *type, const char *help, double value)
{
    struct metric *metric = find(prometheus, name, type, help);

    begin_sample(metric, machine);
    g_string_append_printf(metric->samples, "} %.15g\n", value);
}

static void add_info(struct prometheus *prometheus, const char *machine, const json_t *status)
{
    static const char *const labels[] = {"machine", "engine", "cpu", "io"};
    struct metric *metric = find(prometheus, "anima_machine_info", "gauge", "What the machine is");

    begin_sample(metric, machine);
    for (unsigned i = 1; i < G_N_ELEMENTS(labels); i++) {
        const char *value = json_string_value(json_object_get(status, labels[i]));

        add_label(metric->samples, labels[i], value ? value : "");
    }
    g_string_append(metric->samples, "} 1\n");
}

static double number(const json_t *object, const char *key)
{
    return (double)json_integer_value(json_object_get(object, key));
}

static void add_status(struct prometheus *prometheus, const char *machine, const json_t *status)
{
    const char *state = json_string_value(json_object_get(status, "state"));

    add_info(prometheus, machine, status);
    add_value(prometheus, machine, "anima_machine_running", "gauge", "Whether its CPUs run",
              state && strcmp(state, "running") == 0);
    add_value(prometheus, machine, "anima_machine_cpus", "gauge", "Number of CPUs",
              number(status, "cpus"));
    add_value(prometheus, machine, "anima_machine_memory_bytes", "gauge", "Size of RAM",
              number(status, "memory"));
    add_value(prometheus, machine, "anima_machine_uptime_seconds", "gauge",
              "Host time since it was started", number(status, "uptime_ms") / 1e3);
    add_value(prometheus, machine, "anima_machine_clock_seconds", "gauge",
              "Its own clock, which stands while it is paused", number(status, "clock_ns") / 1e9);
    add_value(prometheus, machine, "anima_machine_guest_errors_total", "counter",
              "What its devices were asked that no device can do", number(status, "guest_errors"));
}

static void add_counter(struct prometheus *prometheus, const char *machine, const char *key,
                        const json_t *counter)
{
    const char *about = json_string_value(json_object_get(counter, "about"));
    g_autofree char *name = g_strdup_printf("anima_vcpu_%s_total", key);
    struct metric *metric;
    json_t *value;
    size_t i;

    g_strcanon(name, G_CSET_a_2_z G_CSET_A_2_Z G_CSET_DIGITS "_", '_');
    metric = find(prometheus, name, "counter", about ? about : "");
    json_array_foreach(json_object_get(counter, "vcpus"), i, value)
    {
        begin_sample(metric, machine);
        g_string_append_printf(metric->samples, ",vcpu=\"%zu\"} %" JSON_INTEGER_FORMAT "\n", i,
                               json_integer_value(value));
    }
}

/* What the method says, as a new object; NULL and `error` otherwise. */
static json_t *ask(struct anima_machine *machine, const char *method, struct anima_error **error)
{
    char *text = anima_machine_call(machine, method, NULL, -1, CALL_TIMEOUT_MS, error);
    json_t *result = text ? json_loads(text, 0, NULL) : NULL;

    anima_free(text);
    return result;
}

struct prometheus *prometheus_create(void)
{
    struct prometheus *prometheus = g_new0(struct prometheus, 1);

    prometheus->metrics = g_ptr_array_new_with_free_func(metric_free);
    return prometheus;
}

void prometheus_destroy(struct prometheus *prometheus)
{
    g_ptr_array_unref(prometheus->metrics);
    g_free(prometheus);
}

bool prometheus_add(struct prometheus *prometheus, const char *name, struct anima_error **error)
{
    struct anima_machine *machine = anima_machine_connect(name, error);
    json_t *status = machine ? ask(machine, "query", error) : NULL;
    json_t *metrics = status ? ask(machine, "metrics", error) : NULL, *counter;
    bool good = metrics;
    const char *key;

    if (good)
        add_status(prometheus, name, status);
    json_object_foreach(json_object_get(metrics, "counters"), key, counter)
        add_counter(prometheus, name, key, counter);
    json_decref(status);
    json_decref(metrics);
    anima_machine_destroy(machine);
    return good;
}

void prometheus_print(const struct prometheus *prometheus)
{
    for (unsigned i = 0; i < prometheus->metrics->len; i++) {
        const struct metric *metric = prometheus->metrics->pdata[i];

        printf("# HELP %s %s\n# TYPE %s %s\n%s", metric->name, metric->help, metric->name,
               metric->type, metric->samples->str);
    }
}
