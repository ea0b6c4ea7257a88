# SPDX-License-Identifier: Apache-2.0
# A thin front of Meson: each target sets up what it needs and calls the tool that does the work.

BUILD := build
JOBS  := $(shell nproc)

.PHONY: all setup run test test-long lint bench install clean

all: $(BUILD)/build.ninja
	@ninja -C $(BUILD)

setup:
	@scripts/setup

$(BUILD)/build.ninja: | setup
	@meson setup --buildtype=debugoptimized $(BUILD) >/dev/null

run: setup all
	@scripts/run-guest

test: setup
	@scripts/test

test-long: setup
	@scripts/test --long

lint: setup
	@scripts/lint

bench: setup all
	@scripts/bench

install: all
	@meson install -C $(BUILD)

clean:
	@rm -rf build build-asan build-tsan build-fuzz
