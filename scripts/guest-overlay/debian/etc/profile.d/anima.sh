# SPDX-License-Identifier: Apache-2.0
# Tell the kernel the size of the terminal, by asking it where its lower right corner is.
resize() {
    printf '\0337\033[999;999H\033[6n\0338' >/dev/tty
    IFS='[;' read -rs -t 2 -d R _ rows columns </dev/tty && stty rows "$rows" cols "$columns"
}
