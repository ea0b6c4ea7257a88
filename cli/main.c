// SPDX-License-Identifier: Apache-2.0
/*
 * anima: the command line, a thin layer over libanima. One file a command; this one has the table.
 */
#include <locale.h>
#include <string.h>

#include "cli/cli.h"

const struct cli_flag cli_json_flag[] = {{"json", NULL, "print JSON"}, {0}};
static const struct cli_flag no_flags[] = {{0}};

const struct command commands[] = {
    {"run", "[NAME|vm.yaml]", "run a machine on this terminal", no_flags, true, 0, 1, command_run},
    {"create", "NAME [vm.yaml]", "keep the definition of a new machine", no_flags, CLI_CLOUD, 1, 2,
     command_create},
    {"import", "FILE [NAME]", "keep a package's machine, or one of libvirt, VirtualBox or Xen",
     import_flags, true, 1, 2, command_import},
    {"export", "NAME FILE.ova|FILE.ovf", "write a machine with its disks as a package", no_flags,
     false, 2, 2, command_export},
    {"start", "NAME ...", "start machines in the background", start_flags, false, 0, CLI_MANY,
     command_start},
    {"edit", "NAME [OPTION=VALUE]", "change a machine's definition", no_flags, false, 1, CLI_MANY,
     command_edit},
    {"show", "NAME", "show a machine's definition", show_flags, false, 1, 1, command_show},
    {"list", "", "list the machines", list_flags, false, 0, 0, command_list},
    {"delete", "NAME", "remove a machine with its folder", delete_flags, false, 1, 1,
     command_delete},
    {"query", "NAME", "show how a running machine is", cli_json_flag, false, 1, 1, command_query},
    {"attach", "NAME disk|nic ENTRY", "put a disk or a network card into a running machine",
     attach_flags, false, 3, 3, command_attach},
    {"detach", "NAME ID", "take one out of it, when the guest lets go of it", detach_flags, false,
     2, 2, command_detach},
    {"change", "NAME [ID] OPTION=VALUE ...", "change a running machine, or one of its devices",
     change_flags, false, 2, CLI_MANY, command_change},
    {"console", "NAME", "see and use its line on stdio; Ctrl-] leaves", console_flags, false, 1, 1,
     command_console},
    {"guest", "NAME info|addresses|exec|freeze|thaw|time|shutdown [-- COMMAND]",
     "ask the agent in its guest (option agent)", guest_flags, false, 2, CLI_MANY, command_guest},
    {"ssh", "NAME [-- COMMAND]", "log in by ssh, once the guest answers", ssh_flags, false, 1,
     CLI_MANY, command_ssh},
    {"events", "[NAME]", "follow what happens to machines", events_flags, false, 0, 1,
     command_events},
    {"top", "", "show what running machines take of this host", top_flags, false, 0, 0,
     command_top},
    {"metrics", "[NAME]", "count what CPUs did", metrics_flags, false, 0, 1, command_metrics},
    {"pause", "NAME", "stop its CPUs and its clock", no_flags, false, 1, 1, command_pause},
    {"resume", "NAME", "let it go on", no_flags, false, 1, 1, command_resume},
    {"reset", "NAME", "press its reset button", no_flags, false, 1, 1, command_reset},
    {"nmi", "NAME", "send it a non-maskable interrupt", no_flags, false, 1, 1, command_nmi},
    {"stop", "NAME ...", "press the power buttons of machines", stop_flags, false, 0, CLI_MANY,
     command_stop},
    {"kill", "NAME", "end it at once", no_flags, false, 1, 1, command_kill},
    {"upgrade", "[NAME]", "replace its running VMM by the installed one, or change its engine",
     upgrade_flags, false, 0, 1, command_upgrade},
    {"doctor", "", "examine this host, and say how to mend it", cli_json_flag, false, 0, 0,
     command_doctor},
    {"state", "save NAME FILE | dump FILE", "write a machine's state, or print such a file",
     no_flags, false, 2, 3, command_state},
    {"network", "create|list|show|edit|delete|forward [NAME] ...", "networks that machines share",
     network_flags, CLI_NETWORK, 1, CLI_MANY, command_network},
    {"completion", "bash|zsh|fish", "print a completion script for a shell", no_flags, false, 1, 1,
     command_completion},
    {"version", "", "print the version", version_flags, false, 0, 0, command_version},
    {"help", "[COMMAND]", "explain a command", no_flags, false, 0, 1, command_help},
    {0},
};

const struct command *command_find(const char *name)
{
    for (const struct command *command = commands; command->name; command++)
        if (strcmp(command->name, name) == 0)
            return command;
    return NULL;
}

/* The spellings of help and version that people try first. */
static const char *command_name(const char *word)
{
    if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0)
        return "help";
    if (strcmp(word, "--version") == 0 || strcmp(word, "-V") == 0)
        return "version";
    return word;
}

int main(int argc, char **argv)
{
    const struct command *command;

    setlocale(LC_CTYPE, "");
    if (argc < 2) {
        command_help(command_find("help"), 1, argv);
        return CLI_USAGE;
    }
    command = command_find(command_name(argv[1]));
    if (!command)
        return cli_fail(CLI_USAGE, "there is no command '%s'; 'anima help' lists them", argv[1]);
    return command->run(command, argc - 1, argv + 1);
}
