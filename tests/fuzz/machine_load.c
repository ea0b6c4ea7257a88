// SPDX-License-Identifier: Apache-2.0
/*
 * A whole machine's stream as a stranger may have written it: one section of a good stream is
 * changed, left out or given twice, all checksums being right. What is refused says why in one
 * line; what loads runs for a moment on the software CPU, as it is: the devices' and the
 * processor's state may be anything that their tables let in.
 */
#include "tests/fuzz/fuzz.h"

#include "config/limits.h"
#include "vmm/machine/machine_stream.h"
#include "vmm/util/loop.h"

#define RUN_US 300

static const uint8_t multiboot_kernel[] = {
    0x02, 0xb0, 0xad, 0x1b, 0x00, 0x00, 0x01, 0x00, 0xfe, 0x4f, 0x51, 0xe4, /* magic, flags, sum */
    0x00, 0x00, 0x10, 0x00, 0x00, 0x00, 0x10, 0x00, 0x00, 0x00, 0x00, 0x00, /* header, load, end */
    0x00, 0x00, 0x00, 0x00, 0x20, 0x00, 0x10, 0x00,                         /* bss, entry */
    0xeb, 0xfe,                                                             /* jmp . */
};

static struct loop *loop;

static struct machine_config base_config(void)
{
    const char *why;

    return (struct machine_config){
        .name = "fuzz",
        .engine = engine_find("soft", -1, &why, NULL),
        .cpu_model = "x86-64-v2",
        .cpus = 2,
        .memory_size = 2 << 20,
        .kernel = {.fd = -1},
        .initrd = {.fd = -1},
        .loop = loop,
        .pvpanic = true,
        .virtio_rng = true,
        .rng_device = CONFIG_PCI_FIRST,
    };
}

/* The good stream, made once. */
static int good_stream(void)
{
    static int stream = -1;
    struct machine_config config;
    struct machine *machine;

    if (stream >= 0)
        return stream;
    loop = loop_create("io/0", NULL);
    config = base_config();
    config.kernel =
        (struct machine_image){fuzz_file(multiboot_kernel, sizeof(multiboot_kernel)), "kernel", ""};
    machine = machine_create(&config, NULL);
    fuzz_require(machine);
    stream = fuzz_file("", 0);
    fuzz_require(machine_save(machine, stream, "{}", NULL));
    machine_destroy(machine);
    close(config.kernel.fd);
    return stream;
}

struct copier {
    struct fuzz_input *input;
    struct stream_writer *writer;
    unsigned number, chosen; /* of the section, and which one is not copied as it is */
    uint8_t how;
};

static enum stream_verdict copy(void *opaque, const struct stream_section *section, GError **error)
{
    struct copier *copier = opaque;
    gsize size;
    const void *data = g_bytes_get_data(section->content, &size);
    g_autofree uint8_t *bytes = g_memdup2(data, size);
    bool chosen = copier->number++ == copier->chosen;
    unsigned times = chosen && copier->how % 8 == 0 ? 0 : chosen && copier->how % 8 == 1 ? 2 : 1;

    if (chosen)
        fuzz_patch(copier->input, bytes, size);
    for (unsigned i = 0; i < times; i++)
        fuzz_require(stream_write(copier->writer, section->name, section->version, section->flags,
                                  bytes, size, NULL));
    return STREAM_TAKEN;
}

static int changed_stream(struct fuzz_input *input)
{
    int changed = fuzz_file("", 0), good = good_stream();
    struct copier copier = {
        .input = input,
        .chosen = fuzz_byte(input) % 48,
        .how = fuzz_byte(input),
        .writer = stream_writer_create(changed, "{}", NULL),
    };
    struct stream_reader *reader;

    lseek(good, 0, SEEK_SET);
    reader = stream_reader_create(good, NULL);
    fuzz_require(stream_read(reader, copy, &copier, NULL));
    fuzz_require(stream_writer_finish(copier.writer, NULL));
    stream_reader_destroy(reader);
    stream_writer_destroy(copier.writer);
    lseek(changed, 0, SEEK_SET);
    return changed;
}

static struct machine *make(struct stream_reader *reader, GError **error)
{
    struct machine_config config = base_config();
    struct cpu_definition cpu;

    config.incoming = true;
    config.cpu = &cpu;
    return machine_load_head(reader, &cpu, error) ? machine_create(&config, error) : NULL;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input input = {data, size};
    int fd = changed_stream(&input);
    g_autoptr(GError) error = NULL;
    struct stream_reader *reader = stream_reader_create(fd, &error);
    struct machine *machine = make(reader, &error);

    if (machine && machine_load(machine, reader, NULL, &error)) {
        fuzz_require(machine_resume(machine));
        g_usleep(RUN_US);
        machine_pause(machine);
    } else {
        fuzz_require(error && !strchr(error->message, '\n'));
    }
    machine_destroy(machine);
    stream_reader_destroy(reader);
    close(fd);
    return 0;
}
