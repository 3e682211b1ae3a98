# Copyright (c) 2026 The ovs-vhostuser Authors.
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at:
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.

# All unit and protocol tests in one program, as OVS's ovstest.
check_PROGRAMS += tests/vhutest
tests_vhutest_SOURCES = tests/vhutest.c tests/vhutest.h

# One line a test.  (Uncomment yours when its file is there.)
tests_vhutest_SOURCES += tests/test-netdev-vhostuser-drv.c
tests_vhutest_SOURCES += tests/test-netdev-vhostuser-io.c tests/test-eal.h
tests_vhutest_SOURCES += tests/test-vhu-backend.c
tests_vhutest_SOURCES += tests/test-vhu-backend-load.c
tests_vhutest_SOURCES += tests/test-vhu-backend-log.c
tests_vhutest_SOURCES += tests/test-vhu-backend-rings.c
tests_vhutest_SOURCES += tests/test-vhu-conn.c
tests_vhutest_SOURCES += tests/test-vhu-frontend.c
tests_vhutest_SOURCES += tests/test-vhu-frontend-hostile.c
tests_vhutest_SOURCES += tests/test-vhu-frontend-live.c
tests_vhutest_SOURCES += tests/test-vhu-frontend-log.c
tests_vhutest_SOURCES += tests/test-vhu-frontend-pair.c
tests_vhutest_SOURCES += tests/be-script.c tests/be-script.h
tests_vhutest_SOURCES += tests/test-vhu-log.c
tests_vhutest_SOURCES += tests/test-vhu-mem.c
tests_vhutest_SOURCES += tests/test-vhu-msg.c
tests_vhutest_SOURCES += tests/test-vhu-stream.c
tests_vhutest_SOURCES += tests/fe-script.c tests/fe-script.h
tests_vhutest_SOURCES += tests/test-vhu-trace.c
tests_vhutest_SOURCES += tests/test-vhost-perf.c tests/test-vhost-tool.c
tests_vhutest_SOURCES += utilities/vhost-hist.c utilities/vhost-hist.h
tests_vhutest_SOURCES += utilities/vhost-pcap.c utilities/vhost-pcap.h
tests_vhutest_SOURCES += utilities/vhost-perf-outage.c utilities/vhost-perf.h
tests_vhutest_SOURCES += utilities/vhost-port.h
tests_vhutest_SOURCES += utilities/vhost-seq.c utilities/vhost-seq.h
tests_vhutest_SOURCES += utilities/vhost-stream.c utilities/vhost-stream.h
tests_vhutest_SOURCES += tests/vhu-peer.c tests/vhu-peer.h
tests_vhutest_SOURCES += tests/test-vhu-packet.c
tests_vhutest_SOURCES += tests/test-vhu-positions.c
tests_vhutest_SOURCES += tests/test-vhu-qos.c
tests_vhutest_SOURCES += tests/test-vhu-notify.c
tests_vhutest_SOURCES += tests/test-virtq-crash.c tests/virtq-copy.h
tests_vhutest_SOURCES += tests/test-virtq-drv.c tests/virtq-drv-fixture.h
tests_vhutest_SOURCES += tests/virtq-mock-device.c tests/virtq-mock-device.h
tests_vhutest_SOURCES += tests/test-virtq-drv-life.c
tests_vhutest_SOURCES += tests/test-vhu-shm.c
tests_vhutest_SOURCES += tests/test-virtq-drv-pair.c
tests_vhutest_SOURCES += tests/test-virtq-drv-hostile.c
tests_vhutest_SOURCES += tests/test-virtq-drv-race.c
tests_vhutest_SOURCES += tests/test-virtq-packed.c
tests_vhutest_SOURCES += tests/test-virtq-burst.c
tests_vhutest_SOURCES += tests/test-virtq-log.c
tests_vhutest_SOURCES += tests/test-virtq-race.c
tests_vhutest_SOURCES += tests/test-virtq-run.c
tests_vhutest_SOURCES += tests/test-virtq-split.c
tests_vhutest_SOURCES += tests/virtq-fixture.h
tests_vhutest_SOURCES += tests/virtq-mock.c tests/virtq-mock.h
tests_vhutest_SOURCES += tests/virtq-mock-packed.c

tests_vhutest_LDADD = $(PLUGIN_LIBS) $(OVS_LIBOPENVSWITCH) $(OVS_LIBS)
VHU_OBJECTS += $(tests_vhutest_OBJECTS)

# The tests of what knows packets once more, for a switch with DPDK.
if WITH_DPDK
check_PROGRAMS += tests/vhutest-dpdk
tests_vhutest_dpdk_SOURCES = tests/vhutest.c tests/vhutest.h
tests_vhutest_dpdk_SOURCES += tests/test-eal.h
tests_vhutest_dpdk_SOURCES += tests/test-netdev-vhostuser-drv.c
tests_vhutest_dpdk_SOURCES += tests/test-netdev-vhostuser-io.c
tests_vhutest_dpdk_SOURCES += tests/test-vhu-packet.c
tests_vhutest_dpdk_SOURCES += tests/test-vhu-pieces.c
tests_vhutest_dpdk_SOURCES += tests/test-vhu-pool.c
tests_vhutest_dpdk_SOURCES += tests/virtq-drv-fixture.h
tests_vhutest_dpdk_SOURCES += tests/virtq-fixture.h
tests_vhutest_dpdk_SOURCES += tests/virtq-mock.c tests/virtq-mock.h
tests_vhutest_dpdk_SOURCES += tests/virtq-mock-device.c
tests_vhutest_dpdk_SOURCES += tests/virtq-mock-device.h
tests_vhutest_dpdk_SOURCES += tests/virtq-mock-packed.c
tests_vhutest_dpdk_CPPFLAGS = $(DPDK_CPPFLAGS)
tests_vhutest_dpdk_CFLAGS = $(DPDK_CFLAGS)
tests_vhutest_dpdk_LDADD = $(PLUGIN_DPDK_LIBS) $(OVS_DPDK_LIBOPENVSWITCH) \
	$(OVS_DPDK_LIBS)
VHU_DPDK_OBJECTS += $(tests_vhutest_dpdk_OBJECTS)
endif

# Autotest files, in the order of tests/testsuite.at.
TESTSUITE_AT = \
	tests/testsuite.at \
	tests/vhu-macros.at \
	tests/msg.at \
	tests/stream.at \
	tests/conn.at \
	tests/trace.at \
	tests/backend.at \
	tests/frontend.at \
	tests/mem.at \
	tests/log.at \
	tests/virtq.at \
	tests/virtq-drv.at \
	tests/packet.at \
	tests/io.at \
	tests/qos.at \
	tests/tool.at \
	tests/plugin.at \
	tests/dpdk.at \
	tests/netdev.at \
	tests/front-end-port.at
TESTSUITE = $(srcdir)/tests/testsuite
EXTRA_DIST += $(TESTSUITE_AT) $(TESTSUITE) tests/atlocal.in \
	tests/check-includes tests/check-ovs tests/debian.sh tests/run \
	tests/native tests/packages tests/packages-check tests/rpm tests/versions \
	tests/valgrind-wrapper.in tests/valgrind.supp \
	tests/system

$(srcdir)/tests/package.m4: $(top_srcdir)/configure.ac
	$(AM_V_GEN){ \
	  echo 'm4_define([AT_PACKAGE_NAME],      [$(PACKAGE_NAME)])' && \
	  echo 'm4_define([AT_PACKAGE_TARNAME],   [$(PACKAGE_TARNAME)])' && \
	  echo 'm4_define([AT_PACKAGE_VERSION],   [$(PACKAGE_VERSION)])' && \
	  echo 'm4_define([AT_PACKAGE_STRING],    [$(PACKAGE_STRING)])' && \
	  echo 'm4_define([AT_PACKAGE_BUGREPORT], [$(PACKAGE_BUGREPORT)])' && \
	  echo 'm4_define([AT_PACKAGE_URL],       [$(PACKAGE_URL)])'; \
	} > $@.tmp$$$$ && mv $@.tmp$$$$ $@
EXTRA_DIST += tests/package.m4

$(TESTSUITE): $(TESTSUITE_AT:%=$(top_srcdir)/%) $(srcdir)/tests/package.m4
	$(AM_V_GEN)$(AUTOM4TE) --language=autotest \
		-I $(srcdir) -I $(srcdir)/tests $(srcdir)/tests/testsuite.at -o $@.tmp$$$$ \
		&& mv $@.tmp$$$$ $@

tests/atconfig: $(top_builddir)/config.status
	cd $(top_builddir) && ./config.status tests/atconfig
DISTCLEANFILES = tests/atconfig

# Options for the testsuite, for instance TESTSUITEFLAGS='-j2 -k virtq -v'.
TESTSUITEFLAGS =
AUTOTEST_PATH = tests:vswitchd-plugin:utilities:$(OVS_BUILDDIR)/utilities:$(OVS_BUILDDIR)/ovsdb
check-testsuite: all $(check_PROGRAMS) $(TESTSUITE) tests/atconfig tests/atlocal
	set -e; cd tests; \
	suite() { $(SHELL) '$(abs_top_srcdir)/tests/testsuite' \
		AUTOTEST_PATH='$(AUTOTEST_PATH)' "$$@"; }; \
	suite $(TESTSUITEFLAGS) && exit; \
	test '$(RECHECK)' = yes || exit 1; \
	suite --recheck || { tail -n 60 testsuite.dir/[0-9]*/*.log; exit 1; }
check-programs: $(check_PROGRAMS) $(TESTSUITE)
clean-testsuite:
	-test ! -f $(TESTSUITE) || \
		(cd tests && $(SHELL) '$(abs_top_srcdir)/tests/testsuite' --clean)
CHECK_LOCAL += check-testsuite

# The tests of whatever starts a switch or the tool, with those that have been
# installed, in $(INSTALLED); "make install" puts them in two places.
INSTALLED = $(DESTDIR)$(pkglibdir):$(DESTDIR)$(bindir)
INSTALLCHECKFLAGS = -k plugin -k netdev -k tool
installcheck-local: $(check_PROGRAMS) $(TESTSUITE) tests/atconfig tests/atlocal
	cd tests && VHU_INSTALLED=yes VHU_PLUGIN_DIR='$(DESTDIR)$(pkglibdir)' \
		$(SHELL) '$(abs_top_srcdir)/tests/testsuite' \
		AUTOTEST_PATH='$(INSTALLED):$(AUTOTEST_PATH)' \
		$(INSTALLCHECKFLAGS)

# The same tests under valgrind.  What it has to say goes to
# tests/valgrind.log, and is a failure.  Where a handler of SIGBUS repairs the
# memory, a thread goes on with the registers that it had: they must be right.
VALGRIND = valgrind --quiet --log-file=valgrind.%p --leak-check=full \
	--errors-for-leak-kinds=definite --show-leak-kinds=definite \
	--vex-iropt-register-updates=allregs-at-mem-access \
	--num-callers=20 --suppressions=$(abs_top_srcdir)/tests/valgrind.supp
VALGRIND_WRAPPERS = tests/valgrind/ovs-vhost tests/valgrind/ovs-vswitchd \
	tests/valgrind/vhutest
$(VALGRIND_WRAPPERS): $(top_srcdir)/tests/valgrind-wrapper.in Makefile
	$(AM_V_GEN)$(MKDIR_P) tests/valgrind && \
	$(SED) 's|@valgrind@|$(VALGRIND)|' \
		$(top_srcdir)/tests/valgrind-wrapper.in > $@.tmp && \
	chmod +x $@.tmp && mv $@.tmp $@
check-valgrind: all $(check_PROGRAMS) $(TESTSUITE) tests/atconfig \
		tests/atlocal $(VALGRIND_WRAPPERS)
	@cd tests && rm -f valgrind.log && status=0; \
	suite() { \
		rm -f testsuite.dir/*/valgrind.*; \
		VHU_VALGRIND=yes $(SHELL) '$(abs_top_srcdir)/tests/testsuite' -d \
			AUTOTEST_PATH='tests/valgrind:$(AUTOTEST_PATH)' \
			"$$@"; s=$$?; \
		find testsuite.dir -name 'valgrind.*' \
			-exec grep . {} + >> valgrind.log; \
		return $$s; }; \
	suite $(TESTSUITEFLAGS) || status=1; \
	if test -s valgrind.log; then \
		cat valgrind.log; \
		echo "valgrind has found errors, see tests/valgrind.log"; \
		status=1; \
	fi; exit $$status
CLEANFILES += $(VALGRIND_WRAPPERS) tests/valgrind.log
.PHONY: check-valgrind

# Whole systems: guests, testpmd, scripted peers.  Needs root.  For instance
# SYSTEMTESTFLAGS='-k guests -x'.
SYSTEMTESTFLAGS =
check-system: all
	VHU_BUILDDIR=$(abs_builddir) PYTHONDONTWRITEBYTECODE=1 \
		$(PYTHON3) -m pytest -q -ra -p no:cacheprovider \
		$(SYSTEMTESTFLAGS) $(abs_top_srcdir)/tests/system
.PHONY: check-system

# The Debian packages, in systems of their own.  Needs root, and time.
PACKAGES =
check-packages: all
	$(AM_V_at)VHU_BUILDDIR=$(abs_builddir) \
		$(top_srcdir)/tests/packages $(PACKAGES)
.PHONY: check-packages

# The RPM packages, in a file tree of their own.  Needs root.  For instance
# RPMFLAGS=--quick.
RPMFLAGS =
check-rpm: ovs-shared
	$(AM_V_at)VHU_BUILDDIR=$(abs_builddir) $(top_srcdir)/tests/rpm $(RPMFLAGS)
clean-rpm:
	rm -rf rpm
CLEAN_LOCAL += clean-rpm
.PHONY: check-rpm
CLEAN_LOCAL += clean-testsuite
.PHONY: check-testsuite check-programs

# Open vSwitch's own test suite with our daemon; by default all of it.
OVS_TESTSUITEFLAGS =
check-ovs: vswitchd-plugin/ovs-vswitchd
	$(MAKE) -C $(OVS_BUILDDIR) -f $(abs_top_srcdir)/build-aux/relink.mk \
		vhu-ovs-tests > check-ovs.log 2>&1 || { tail check-ovs.log; exit 1; }
	$(SHELL) $(top_srcdir)/tests/check-ovs $(OVS_SRCDIR) $(OVS_BUILDDIR) \
		$(abs_builddir)/vswitchd-plugin $(OVS_TESTSUITEFLAGS)
CLEANFILES += check-ovs.log
clean-check-ovs:
	rm -rf check-ovs.dir
CLEAN_LOCAL += clean-check-ovs

# Many live migrations of guests, under random load, and what they cost.
MIGRATIONS = 100
MIGRATION_FLAGS =
check-migration: all
	VHU_BUILDDIR=$(abs_builddir) $(PYTHON3) \
		$(srcdir)/tests/system/migration_run.py --count $(MIGRATIONS) \
		$(MIGRATION_FLAGS)
.PHONY: check-migration

# The sources as they are.
check-includes:
	$(AM_V_at)sh $(top_srcdir)/tests/check-includes $(top_srcdir)
check-style:
	$(AM_V_at)$(PYTHON3) $(top_srcdir)/build-aux/check-style $(top_srcdir) \
		$(OVS_SRCDIR)

# The same sources, configured differently, in a directory each.  They are
# copied because this may be the source directory itself.
VARIANT = \
	$(MKDIR_P) variants && $(MAKE) -s distdir distdir=variants/src && \
	$(MKDIR_P) variants/$$v && cd variants/$$v && \
	if test ! -f Makefile; then \
		../src/configure -q --enable-Werror $(OVS_TREES) $$args; \
	fi && $(MAKE)
# Compile without a warning, also one that says that a lock is missing.
check-gcc: all
	+@v=gcc args='CC=gcc'; $(VARIANT) all $(check_PROGRAMS)
check-clang: all
	+@v=clang args='CC=clang CFLAGS=-O0'; $(VARIANT) all $(check_PROGRAMS)
# Byte order of the fields that we share with guests.  OVS has some system
# headers of its own for sparse; one is older than what we use.
check-sparse: all
	+@rm -rf variants/include && $(MKDIR_P) variants && \
	cp -R $(OVS_SRCDIR)/include/sparse variants/include && \
	chmod -R u+w variants/include && \
	rm variants/include/sys/socket.h && \
	export REAL_CC='$(CC)' \
		CHECK="sparse -Wsparse-error -I$$PWD/variants/include" && \
	v=sparse args='CC=cgcc --with-dpdk=no'; $(VARIANT) $(noinst_LIBRARIES)
# Unit and protocol tests with AddressSanitizer, UndefinedBehaviorSanitizer and,
# as that cannot be combined with the first, ThreadSanitizer.
SANITIZER_TESTSUITEFLAGS = $(TESTSUITEFLAGS)
check-sanitizers: all
	+@v=asan args='--with-dpdk=no --enable-sanitizers=address,undefined'; $(VARIANT) \
		check TESTSUITEFLAGS="$(SANITIZER_TESTSUITEFLAGS)"
check-tsan: all
	+@v=tsan args='CC=clang --with-dpdk=no --enable-sanitizers=thread'; $(VARIANT) \
		check TESTSUITEFLAGS="$(SANITIZER_TESTSUITEFLAGS)"
clean-variants:
	-chmod -R u+w variants versions 2>/dev/null
	rm -rf variants versions native
CLEAN_LOCAL += clean-variants
# The versions of Open vSwitch in Debian's suites, e.g. VERSIONS='--all sid'.
VERSIONS =
check-versions:
	$(AM_V_at)VHU_BUILDDIR=$(abs_builddir) \
		$(top_srcdir)/tests/versions $(VERSIONS)
# In a system of another suite; for instance NATIVE='trixie unit system'.
NATIVE = trixie
check-native:
	$(AM_V_at)VHU_BUILDDIR=$(abs_builddir) $(top_srcdir)/tests/native $(NATIVE)
# All tests of what is built for a switch with DPDK, and all system tests with
# that daemon.
check-dpdk: all ovs-shared-dpdk $(check_PROGRAMS)
	$(MAKE) check-testsuite TESTSUITEFLAGS='-k dpdk'
	VHU_BUILDDIR=$(abs_builddir) VHU_SWITCH=ours-dpdk \
		$(PYTHON3) -m pytest -q -ra $(abs_top_srcdir)/tests/system
.PHONY: check-dpdk check-ovs check-includes check-style check-gcc check-clang \
	check-sparse check-sanitizers check-tsan check-versions check-native

# The long forms of those system tests where peers come and go.
check-peers: all
	VHU_LONG=1 VHU_BUILDDIR='$(abs_builddir)' $(PYTHON3) -m pytest -q -ra \
		-p no:cacheprovider $(srcdir)/tests/system/test_changes.py \
		$(srcdir)/tests/system/test_cuts.py \
		$(srcdir)/tests/system/test_peers.py \
		$(srcdir)/tests/system/test_resets.py
.PHONY: check-peers

# The switch is killed 200 times.
check-restart: all
	VHU_RESTARTS=200 VHU_BUILDDIR='$(abs_builddir)' $(PYTHON3) -m pytest \
		-q -ra -s -p no:cacheprovider -k random_kills \
		$(srcdir)/tests/system/test_restart.py
.PHONY: check-restart

# What tests/bench/run measures besides ours and its competitors.
check_PROGRAMS += tests/bench/limit
tests_bench_limit_SOURCES = tests/bench/limit.c
tests_bench_limit_SOURCES += utilities/vhost-loop.c utilities/vhost-loop.h
tests_bench_limit_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/utilities
tests_bench_limit_LDADD = lib/libvhu.a $(OVS_LIBOPENVSWITCH) $(OVS_LIBS)
VHU_OBJECTS += $(tests_bench_limit_OBJECTS)
EXTRA_DIST += tests/bench/idle.py tests/bench/peers.py tests/bench/report.py \
	tests/bench/run tests/bench/systems.py

# Fuzz targets.  What "make check" runs tries random inputs; "make fuzz" builds
# the same for libFuzzer, with clang, and runs each for FUZZ_TIME seconds on
# the inputs in tests/fuzz/corpus-*, which it adds to.
check_PROGRAMS += tests/fuzz/msg-target
tests_fuzz_msg_target_SOURCES = tests/fuzz/msg_target.c
tests_fuzz_msg_target_LDADD = lib/libvhu.a $(OVS_LIBOPENVSWITCH) $(OVS_LIBS)
VHU_OBJECTS += $(tests_fuzz_msg_target_OBJECTS)
FUZZ_TIME = 60
FUZZ_FLAGS = -g -O1 -fsanitize=fuzzer,address,undefined -DVHU_LIBFUZZER
fuzz: $(OVS_STAMP)
	$(AM_V_at)$(MKDIR_P) tests/fuzz/corpus-msg
	$(AM_V_CCLD)clang $(FUZZ_FLAGS) $(DEFS) $(DEFAULT_INCLUDES) \
		$(AM_CPPFLAGS) -std=gnu11 $(srcdir)/tests/fuzz/msg_target.c \
		$(addprefix $(top_srcdir)/,$(filter %.c,$(lib_libvhu_a_SOURCES))) \
		$(OVS_LIBOPENVSWITCH) $(OVS_LIBS) -o tests/fuzz/msg-fuzzer
	$(AM_V_GEN)tests/fuzz/msg-fuzzer -max_total_time=$(FUZZ_TIME) \
		-max_len=1024 tests/fuzz/corpus-msg
CLEANFILES += tests/fuzz/msg-fuzzer
.PHONY: fuzz

# The same for virtqueues that we drive.
check_PROGRAMS += tests/fuzz/virtq-drv-target
tests_fuzz_virtq_drv_target_SOURCES = tests/fuzz/virtq_drv_target.c
tests_fuzz_virtq_drv_target_LDADD = lib/libvhu.a $(OVS_LIBOPENVSWITCH) \
	$(OVS_LIBS)
VHU_OBJECTS += $(tests_fuzz_virtq_drv_target_OBJECTS)
fuzz-virtq-drv: $(OVS_STAMP)
	$(AM_V_at)$(MKDIR_P) tests/fuzz/corpus-virtq-drv
	$(AM_V_CCLD)clang $(FUZZ_FLAGS) $(DEFS) $(DEFAULT_INCLUDES) \
		$(AM_CPPFLAGS) -std=gnu11 \
		$(srcdir)/tests/fuzz/virtq_drv_target.c \
		$(addprefix $(top_srcdir)/,$(filter %.c,$(lib_libvhu_a_SOURCES))) \
		$(OVS_LIBOPENVSWITCH) $(OVS_LIBS) -o tests/fuzz/virtq-drv-fuzzer
	$(AM_V_GEN)tests/fuzz/virtq-drv-fuzzer -max_total_time=$(FUZZ_TIME) \
		-max_len=1024 tests/fuzz/corpus-virtq-drv
CLEANFILES += tests/fuzz/virtq-drv-fuzzer
.PHONY: fuzz-virtq-drv
